import { Worker } from 'node:worker_threads';
import type { FuzzThreadEnd, FuzzThreadInit } from './fuzz-thread.js';
import { SharedInput } from './shared-input.js';

export type FuzzResult = {
  readonly inputs: number;
  readonly outcomes: number;
  /** Null: nothing was found. */
  readonly finding: { readonly problem: string; readonly input: Buffer } | null;
};

const checkEveryMs = 250;

/**
 * Fuzzes one target in a thread. Found are: an error that is no answer, an input that takes longer than `inputLimitMs`, and a
 * heap over `heapLimitMb`.
 */
export async function runTarget(init: {
  /** URL of a module that exports `targets`. */
  readonly module: string;
  readonly target: string;
  readonly durationMs: number;
  readonly seed: number;
  readonly inputLimitMs: number;
  readonly heapLimitMb: number;
  readonly only?: readonly Uint8Array[];
}): Promise<FuzzResult> {
  const shared = new SharedInput();
  const { module, target, seed, only } = init;
  const untilMs = Date.now() + init.durationMs;
  const workerData: FuzzThreadInit = { module, target, seed, untilMs, memory: shared.memory, ...(only && { only }) };
  const worker = new Worker(new URL('./fuzz-thread.js', import.meta.url), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: init.heapLimitMb },
  });
  const end = new Promise<FuzzThreadEnd>((resolve) => {
    worker.once('message', resolve);
    // Too large a heap comes this way too.
    worker.once('error', (error) => resolve({ outcomes: 0, failure: error.message }));
  });
  const watch = watchProgress(shared, init.inputLimitMs);
  const { outcomes, failure } = await Promise.race([end, watch.stuck]);
  watch.stop();
  await worker.terminate();
  const finding = failure === null ? null : { problem: failure, input: shared.input };
  return { inputs: shared.count, outcomes, finding };
}

function watchProgress(shared: SharedInput, limitMs: number): { stuck: Promise<FuzzThreadEnd>; stop: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const stuck = new Promise<FuzzThreadEnd>((resolve) => {
    let [count, since] = [shared.count, performance.now()];
    timer = setInterval(() => {
      if (shared.count !== count) [count, since] = [shared.count, performance.now()];
      // Before the first input the thread loads its modules.
      else if (count > 0 && performance.now() - since > limitMs) {
        resolve({ outcomes: 0, failure: `an input took longer than ${limitMs} ms` });
      }
    }, checkEveryMs);
  });
  return { stuck, stop: () => clearInterval(timer) };
}
