import { RandomChoices } from '../support/mesh/random-choices.js';
import { mutate } from './mutate.js';
import type { FuzzTarget } from './target.js';

const mostKept = 4000;

/** The inputs that mutations start with: the seeds, then every input whose outcome was a new one. */
export class Corpus {
  readonly #random: RandomChoices;
  readonly #words: readonly string[];
  readonly #inputs: Buffer[];
  readonly #outcomes = new Set<string>();

  constructor(init: { readonly seeds: readonly Buffer[]; readonly words: readonly string[]; readonly seed: number }) {
    this.#random = new RandomChoices({ seed: init.seed });
    this.#words = init.words;
    this.#inputs = [...init.seeds];
  }

  /** Different outcomes so far. */
  get outcomes(): number {
    return this.#outcomes.size;
  }

  next(): Buffer {
    const input = this.#any();
    return mutate(this.#random, { input, other: this.#any(), words: this.#words });
  }

  learn(input: Buffer, outcome: string): void {
    if (this.#outcomes.has(outcome) || this.#outcomes.size >= mostKept) return;
    this.#outcomes.add(outcome);
    this.#inputs.push(input);
  }

  #any(): Buffer {
    return this.#inputs[Math.floor(this.#random.next() * this.#inputs.length)] ?? Buffer.alloc(0);
  }
}

/** Gives a target its seeds, then `count` mutations, here. Returns the number of outcomes. Throws as the target does. */
export async function fuzzHere(
  target: FuzzTarget,
  { count, seed }: { readonly count: number; readonly seed: number },
): Promise<number> {
  const seeds = await target.seeds();
  const corpus = new Corpus({ seeds, words: target.words, seed });
  for (const each of seeds) corpus.learn(each, await target.check(each));
  for (let left = count; left > 0; left--) {
    const input = corpus.next();
    corpus.learn(input, await target.check(input));
  }
  return corpus.outcomes;
}
