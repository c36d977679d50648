import type { Stage } from './stage.js';

/** What a step found out, as plain JSON: figures and texts that were measured or captured in this run. */
export type Evidence = Readonly<Record<string, unknown>>;

/**
 * One numbered step of the demo. `run` throws when its claim does not hold ({@link require}); `say` prints a line while it
 * works.
 */
export type Step = {
  readonly id: string;
  readonly title: string;
  readonly run: (stage: Stage, say: (line: string) => void) => Promise<Evidence>;
};

export type StepResult = { readonly id: string; readonly ok: boolean; readonly evidence: Evidence };

/** The claim of a step does not hold. */
export class ClaimFailed extends Error {}

export function require(condition: boolean, claim: string): asserts condition {
  if (!condition) throw new ClaimFailed(`this does not hold: ${claim}`);
}
