import { isIpv6 } from '../../../shared/address.js';
import type { MeshParty } from './mesh-party.js';
import type { Selector } from './selectors.js';

/** Ends that no rule tells apart, so that one can be asked for all. */
export type EndClass = {
  /** At least one. */
  readonly members: readonly MeshParty[];
  /** By position of the selector: whether it holds for every member (null selectors: true). */
  readonly holds: readonly boolean[];
  readonly hasIpv4: boolean;
  readonly hasIpv6: boolean;
};

/** Groups ends by which of the selectors hold for them, in the order in which they come. */
export function classifyEnds(ends: readonly MeshParty[], selectors: readonly (Selector | null)[]): EndClass[] {
  const distinct = [...new Map(selectors.filter((s) => s !== null).map((s) => [s.key, s])).values()];
  const position = new Map(distinct.map(({ key }, index) => [key, index]));
  const candidates = new Candidates(distinct);
  const groups = new Map<string, { members: MeshParty[]; held: ReadonlySet<number> }>();
  for (const end of ends) {
    const held = candidates.of(end).filter((index) => distinct[index]?.selects(end) === true);
    const signature = held.join(' ');
    const group = groups.get(signature);
    if (group === undefined) groups.set(signature, { members: [end], held: new Set(held) });
    else group.members.push(end);
  }
  const indexes = selectors.map((selector) => (selector === null ? null : (position.get(selector.key) ?? 0)));
  return [...groups.values()].map(({ members, held }) => ({
    members,
    holds: indexes.map((index) => index === null || held.has(index)),
    hasIpv4: members.some(({ party }) => !isIpv6(party.ip)),
    hasIpv6: members.some(({ party }) => isIpv6(party.ip)),
  }));
}

/** Which selectors can hold for an end: of thousands, most name a namespace that it is not in. */
class Candidates {
  readonly #anywhere: number[] = [];
  readonly #byNamespace = new Map<string, number[]>();
  readonly #all: readonly number[];

  constructor(selectors: readonly Selector[]) {
    this.#all = [...selectors.keys()];
    for (const [index, { namespaces }] of selectors.entries()) {
      if (namespaces === null) this.#anywhere.push(index);
      for (const namespace of namespaces ?? []) {
        const others = this.#byNamespace.get(namespace);
        if (others === undefined) this.#byNamespace.set(namespace, [index]);
        else others.push(index);
      }
    }
  }

  /** Positions, each once, always in the same order for ends of one namespace. */
  of({ party: { identity, workload } }: MeshParty): readonly number[] {
    const isPlain = workload !== null && (identity === null || identity.includes(`/ns/${workload.namespace}/sa/`));
    // Who is nowhere in the mesh is in no namespace.
    if (workload === null && identity === null) return this.#anywhere;
    if (!isPlain) return this.#all;
    return [...this.#anywhere, ...(this.#byNamespace.get(workload.namespace) ?? [])].sort((a, b) => a - b);
  }
}
