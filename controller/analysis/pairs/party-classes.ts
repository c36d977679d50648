import { isIpv6 } from '../../../shared/address.js';
import type { MeshParty } from './mesh-party.js';
import type { Selector } from './selectors.js';

/** Ends that no rule distinguishes, so that one answer applies to all. */
export type EndClass = {
  /** At least one. */
  readonly members: readonly MeshParty[];
  /** By selector position: whether it selects every member. Null selectors select everything. */
  readonly holds: readonly boolean[];
  readonly hasIpv4: boolean;
  readonly hasIpv6: boolean;
};

/** Groups ends by the selectors that select them, in input order. */
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

/** Finds the selectors that can select an end; most of thousands name another namespace. */
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

  /** Positions without duplicates, in the same order for all ends of one namespace. */
  of({ party: { identity, workload } }: MeshParty): readonly number[] {
    const isPlain = workload !== null && (identity === null || identity.includes(`/ns/${workload.namespace}/sa/`));
    // An end outside the mesh has no namespace.
    if (workload === null && identity === null) return this.#anywhere;
    if (!isPlain) return this.#all;
    return [...this.#anywhere, ...(this.#byNamespace.get(workload.namespace) ?? [])].sort((a, b) => a - b);
  }
}
