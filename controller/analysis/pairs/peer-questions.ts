import { prepareSnapshot } from '../../../shared/policy/prepared/prepared-snapshot.js';
import type { CompiledRule, PeerMatch, Snapshot } from '../../../shared/policy/snapshot.js';
import type { MeshParty } from './mesh-party.js';
import { connectionOf } from './predict.js';
import { questionRule } from './question-rule.js';

/** `denied source`: one that proves nothing is also held against who it seems to be. */
export type PeerQuestion = 'source' | 'denied source' | 'destination';

type Answers = (end: MeshParty) => Int32Array;

/**
 * Whether ends are among peers, asked of the evaluator's own indexes: the peers of thousands of questions become rules
 * of one set, so that each end is looked up once and not once for every question. Questions that are added after the
 * first answer make a set of their own.
 */
export class PeerQuestions {
  readonly #setOf: (rules: readonly CompiledRule[]) => Snapshot;
  #open: Batch | null = null;

  constructor({ setOf }: { readonly setOf: (rules: readonly CompiledRule[]) => Snapshot }) {
    this.#setOf = setOf;
  }

  /** `peers`: not empty. */
  ask(question: PeerQuestion, peers: readonly PeerMatch[]): (end: MeshParty) => boolean {
    if (this.#open === null || this.#open.isClosed) this.#open = new Batch({ setOf: this.#setOf });
    return this.#open.add(question, peers);
  }
}

class Batch {
  readonly #setOf: (rules: readonly CompiledRule[]) => Snapshot;
  readonly #rules: CompiledRule[] = [];
  #answers: { readonly source: Answers; readonly destination: Answers } | null = null;

  constructor({ setOf }: { readonly setOf: (rules: readonly CompiledRule[]) => Snapshot }) {
    this.#setOf = setOf;
  }

  get isClosed(): boolean {
    return this.#answers !== null;
  }

  add(question: PeerQuestion, peers: readonly PeerMatch[]): (end: MeshParty) => boolean {
    const position = this.#rules.length;
    const action = question === 'denied source' ? 'deny' : 'allow';
    const side = question === 'destination' ? 'destination' : 'source';
    const [from, to] = side === 'source' ? [peers, []] : [[], peers];
    this.#rules.push(questionRule({ name: `x${position}`, action, from, to }));
    return (end) => {
      this.#answers ??= this.#prepare();
      const bits = this.#answers[side](end);
      return ((bits[position >>> 5] ?? 0) & (1 << (position & 31))) !== 0;
    };
  }

  #prepare(): { source: Answers; destination: Answers } {
    const prepared = prepareSnapshot(this.#setOf(this.#rules));
    return {
      source: remembered((end) => {
        return prepared.source(connectionOf({ source: end, destination: end, port }).source).rules;
      }),
      destination: remembered((end) => prepared.destination(end.party, port).rules),
    };
  }
}

/** Any will do: the questions name none. */
const port = 1;

/** Ends are asked about again and again, in question after question. */
function remembered(answer: Answers): Answers {
  const known = new WeakMap<MeshParty, Int32Array>();
  return (end) => {
    let bits = known.get(end);
    if (bits === undefined) known.set(end, (bits = answer(end)));
    return bits;
  };
}
