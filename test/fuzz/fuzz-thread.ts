import { parentPort, workerData } from 'node:worker_threads';
import { describeError } from '../../shared/errors.js';
import { Corpus } from './corpus.js';
import { SharedInput } from './shared-input.js';
import type { FuzzTarget } from './target.js';

export type FuzzThreadInit = {
  /** A module that exports `targets`. */
  readonly module: string;
  readonly target: string;
  readonly seed: number;
  readonly untilMs: number;
  readonly memory: SharedArrayBuffer;
  /** Only these inputs, without mutations. */
  readonly only?: readonly Uint8Array[];
};
export type FuzzThreadEnd = { readonly outcomes: number; readonly failure: string | null };

/** Runs one target until its time is over or it fails. The parent watches the shared input: a parser may not come back. */
const init = workerData as FuzzThreadInit;
const { targets } = (await import(init.module)) as { targets: readonly FuzzTarget[] };
const target = targets.find(({ name }) => name === init.target);
if (target === undefined) throw new Error(`there is no target ${init.target}`);
parentPort?.postMessage(await run(target), []);

async function run({ seeds, words, check }: FuzzTarget): Promise<FuzzThreadEnd> {
  const shared = new SharedInput(init.memory);
  const first = init.only?.map((bytes) => Buffer.from(bytes)) ?? (await seeds());
  const corpus = new Corpus({ seeds: first, words, seed: init.seed });
  const given = [...first];
  while (true) {
    const input = given.shift() ?? (init.only === undefined && Date.now() < init.untilMs ? corpus.next() : undefined);
    if (input === undefined) return { outcomes: corpus.outcomes, failure: null };
    shared.put(input);
    try {
      corpus.learn(input, await check(input));
    } catch (error) {
      const stack = error instanceof Error ? (error.stack ?? error.message) : describeError(error);
      return { outcomes: corpus.outcomes, failure: stack };
    }
  }
}
