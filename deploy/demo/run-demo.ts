import { describeError } from '../../shared/errors.js';
import { Narrator } from './narrator.js';
import { renderOtherDemos, renderPlayGuide, writePlayFiles } from './play.js';
import { Stage } from './stage.js';
import type { Step, StepResult } from './step.js';
import { canaryAndEjection } from './steps/canary-and-ejection.js';
import { encryptedByTheMesh } from './steps/encrypted-by-the-mesh.js';
import { identities } from './steps/identities.js';
import { liveCut } from './steps/live-cut.js';
import { nodeMetrics } from './steps/node-metrics.js';
import { segmentationRule } from './steps/segmentation-rule.js';
import { tryBeforeItBites } from './steps/try-before-it-bites.js';
import { wireBeforeTheMesh } from './steps/wire-before-the-mesh.js';

const steps: readonly Step[] = [
  wireBeforeTheMesh,
  encryptedByTheMesh,
  identities,
  tryBeforeItBites,
  segmentationRule,
  liveCut,
  canaryAndEjection,
  nodeMetrics,
];

export type DemoOptions = { readonly isHeld: boolean; readonly isJson: boolean };

/** Runs all steps and removes the lab. Returns true when every step passed. */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  const out = options.isJson ? process.stderr : process.stdout;
  const say = (line: string): void => void out.write(`${line}\n`);
  const startedAt = performance.now();
  const results: StepResult[] = [];
  const others = options.isHeld ? renderOtherDemos() : null;
  if (others !== null) say(others);
  {
    say('Building two hosts and six workloads, a controller with nats-server, redis, nginx and sshd …');
    await using stage = await buildStage(say);
    for (const [index, step] of steps.entries()) {
      say(`\n${index + 1}. ${step.title}`);
      results.push(await play(step, stage, (line) => say(`   ${line}`)));
    }
    say(`\n${results.filter(({ ok }) => ok).length} of ${steps.length} steps passed, ${seconds(startedAt)} s.`);
    if (options.isHeld) {
      writePlayFiles(stage);
      say(
        `\nThe lab keeps running. Commands to try from another terminal, as root (npm takes options for its own unless -- comes first):\n${renderPlayGuide()}\n\nCtrl-C ends it.`,
      );
      await terminationSignal();
    }
  }
  say('The lab is removed: no namespace, rule, process or file is left.');
  const isOk = results.every(({ ok }) => ok);
  if (options.isJson) {
    const metrics = results.find(({ id }) => id === nodeMetrics.id)?.evidence['nodes'] ?? [];
    process.stdout.write(`${JSON.stringify({ ok: isOk, steps: results, metrics })}\n`);
  }
  return isOk;
}

async function buildStage(say: (line: string) => void): Promise<Stage> {
  using narrator = new Narrator(say);
  return await Stage.build(narrator);
}

/** Runs one step. A failure is a result, so that the later steps still run. */
async function play(step: Step, stage: Stage, print: (line: string) => void): Promise<StepResult> {
  const startedAt = performance.now();
  using narrator = new Narrator(print);
  try {
    const evidence = await step.run(stage, narrator);
    narrator.say(`✔ passed (${seconds(startedAt)} s)`);
    return { id: step.id, ok: true, evidence };
  } catch (error) {
    const failure = describeError(error);
    narrator.say(`✘ ${failure}`);
    return { id: step.id, ok: false, evidence: { failure } };
  }
}

function seconds(startedAt: number): string {
  return ((performance.now() - startedAt) / 1000).toFixed(1);
}

/** Resolves at Ctrl-C or SIGTERM, so that the lab is torn down in order. */
function terminationSignal(): Promise<void> {
  return new Promise((resolve) => {
    const keepAlive = setInterval(() => {}, 60_000);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        clearInterval(keepAlive);
        resolve();
      });
    }
  });
}
