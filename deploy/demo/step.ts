import type { Narrator } from './narrator.js';
import type { Stage } from './stage.js';

/** The findings of a step as plain JSON: figures and texts that were measured or captured in this run. */
export type Evidence = Readonly<Record<string, unknown>>;

/**
 * One numbered step of the demo. `run` throws when a claim fails ({@link require}); `narrator` prints findings and progress.
 */
export type Step = {
  readonly id: string;
  readonly title: string;
  readonly run: (stage: Stage, narrator: Narrator) => Promise<Evidence>;
};

export type StepResult = { readonly id: string; readonly ok: boolean; readonly evidence: Evidence };

/** A claim of a step failed. */
class ClaimFailed extends Error {}

export function require(condition: boolean, claim: string): asserts condition {
  if (!condition) throw new ClaimFailed(`this claim failed: ${claim}`);
}
