import { isIpv6 } from '../address.js';
import type { MeshEnd } from './mesh-end.js';
import type { Selector } from './selectors.js';

/** Ends that no rule tells apart, so that one can be asked for all. */
export type EndClass = {
  /** At least one. */
  readonly members: readonly MeshEnd[];
  /** By position of the selector: whether it holds for every member (null selectors: true). */
  readonly holds: readonly boolean[];
  readonly hasIpv4: boolean;
  readonly hasIpv6: boolean;
};

/** Groups ends by which of the selectors hold for them, in the order in which they come. */
export function classifyEnds(ends: readonly MeshEnd[], selectors: readonly (Selector | null)[]): EndClass[] {
  const distinct = [...new Map(selectors.filter((s) => s !== null).map((s) => [s.key, s])).values()];
  const position = new Map(distinct.map(({ key }, index) => [key, index]));
  const groups = new Map<string, { members: MeshEnd[]; bits: readonly boolean[] }>();
  for (const end of ends) {
    const bits = distinct.map(({ selects }) => selects(end));
    const signature = bits.map(Number).join('');
    const group = groups.get(signature);
    if (group === undefined) groups.set(signature, { members: [end], bits });
    else group.members.push(end);
  }
  const indexes = selectors.map((selector) => (selector === null ? null : (position.get(selector.key) ?? 0)));
  return [...groups.values()].map(({ members, bits }) => ({
    members,
    holds: indexes.map((index) => index === null || bits[index] === true),
    hasIpv4: members.some(({ party }) => !isIpv6(party.ip)),
    hasIpv6: members.some(({ party }) => isIpv6(party.ip)),
  }));
}
