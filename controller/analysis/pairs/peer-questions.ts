import { prepareSnapshot } from '../../../shared/policy/prepared/prepared-snapshot.js';
import { plainRule, type CompiledRule, type RulePeer, type Snapshot } from '../../../shared/policy/snapshot.js';
import type { MeshParty } from './mesh-party.js';
import { connectionOf } from './predict.js';

/** `denied source`: also matches the workload that an unauthenticated source claims to be. */
export type PeerQuestion = 'source' | 'denied source' | 'destination';

type Answers = (end: MeshParty) => Int32Array;

/**
 * Answers whether ends match peers with the evaluator's own indexes. The peers of thousands of questions become rules
 * of one set, so each end is looked up once and not once per question. Questions added after the first answer go into a
 * new set.
 */
export class PeerQuestions {
  readonly #setOf: (rules: readonly CompiledRule[]) => Snapshot;
  #open: Batch | null = null;

  constructor({ setOf }: { readonly setOf: (rules: readonly CompiledRule[]) => Snapshot }) {
    this.#setOf = setOf;
  }

  /** `peers`: not empty. */
  ask(question: PeerQuestion, peers: readonly RulePeer[]): (end: MeshParty) => boolean {
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

  add(question: PeerQuestion, peers: readonly RulePeer[]): (end: MeshParty) => boolean {
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

/** Any port works: the questions do not select by port. */
const port = 1;

/** Many questions are asked about the same ends. */
function remembered(answer: Answers): Answers {
  const known = new WeakMap<MeshParty, Int32Array>();
  return (end) => {
    let bits = known.get(end);
    if (bits === undefined) known.set(end, (bits = answer(end)));
    return bits;
  };
}

/** A synthetic rule that puts a question to the evaluator. It allows everything, except as `part` says. */
export function questionRule(part: Partial<CompiledRule>): CompiledRule {
  return {
    name: 'x',
    // All have the same tier, so that positions stay as they are.
    tier: 'platform',
    priority: 0,
    action: 'allow',
    mode: 'enforce',
    from: [],
    to: [],
    ports: [],
    ...plainRule,
    ...part,
  };
}
