import ipaddr from 'ipaddr.js';
import { parseCidr, type Cidr } from '../../../shared/address.js';
import { compareBytes, NetworkSet } from '../../../shared/network-set.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import type { Overlap } from './peer-field.js';

type Networks = { readonly cidrs: readonly Cidr[]; readonly excepts: readonly Cidr[] };

const everything: readonly Cidr[] = parseAll(['0.0.0.0/0', '::/0']);
/** Each match is compared with thousands of others. */
const parsedNetworks = new WeakMap<PeerMatch, Networks>();

/** The networks of a match, parsed once. Without any, all there are. */
export function networksOf(match: PeerMatch): Networks {
  const known = parsedNetworks.get(match);
  if (known !== undefined) return known;
  const { cidrs, exceptCidrs = [] } = match;
  const parsed = { cidrs: cidrs === undefined ? everything : parseAll(cidrs), excepts: parseAll(exceptCidrs) };
  parsedNetworks.set(match, parsed);
  return parsed;
}

function parseAll(texts: readonly string[]): Cidr[] {
  return texts.map(parseCidr).filter((cidr) => cidr !== undefined);
}

const sets = new WeakMap<readonly Cidr[], NetworkSet>();

function setOf(networks: readonly Cidr[]): NetworkSet {
  let set = sets.get(networks);
  if (set === undefined) sets.set(networks, (set = new NetworkSet({ networks })));
  return set;
}

/** An address outside `taken` that `cidrs` and `exceptCidrs` of both matches allow; undefined: any. */
export function commonAddress(a: PeerMatch, b: PeerMatch, taken: readonly Cidr[]): Overlap {
  if (a.cidrs === undefined && b.cidrs === undefined) {
    const isLeft = taken.length === 0 || everything.some((network) => addressOutside(network, [taken]) !== undefined);
    return isLeft ? undefined : null;
  }
  const [networksA, networksB] = [networksOf(a), networksOf(b)];
  const lists = [networksA.excepts, networksB.excepts, taken].filter((list) => list.length > 0);
  const others = setOf(networksB.cidrs);
  for (const left of setOf(networksA.cidrs).widest) {
    for (const right of others.overlapping(left)) {
      const address = addressOutside(left.prefixLength >= right.prefixLength ? left : right, lists);
      if (address !== undefined) return address;
    }
  }
  return null;
}

/** The first address of `network` outside all exceptions; undefined when they cover the whole network. */
function addressOutside(network: Cidr, lists: readonly (readonly Cidr[])[]): string | undefined {
  const inside: Cidr[] = [];
  for (const list of lists) {
    for (const except of setOf(list).overlapping(network)) {
      if (except.prefixLength <= network.prefixLength) return undefined;
      inside.push(except);
    }
  }
  let free: readonly number[] | undefined = network.bytes;
  for (const { bytes, prefixLength } of inside.sort((x, y) => compareBytes(x.bytes, y.bytes))) {
    if (compareBytes(bytes, free) > 0) break;
    const after: readonly number[] | undefined = following(bytes, prefixLength);
    if (after === undefined) return undefined;
    if (compareBytes(after, free) > 0) free = after;
  }
  const last = following(network.bytes, network.prefixLength);
  if (last !== undefined && compareBytes(free, last) >= 0) return undefined;
  return free === network.bytes ? network.base : ipaddr.fromByteArray([...free]).toString();
}

/** The first address after a network; undefined: it has the last one. */
function following(bytes: readonly number[], prefixLength: number): readonly number[] | undefined {
  const next = [...bytes];
  let carry = prefixLength % 8 === 0 ? 1 : 1 << (8 - (prefixLength % 8));
  for (let index = Math.ceil(prefixLength / 8) - 1; index >= 0 && carry > 0; index--) {
    const sum = (next[index] ?? 0) + carry;
    next[index] = sum & 0xff;
    carry = sum >> 8;
  }
  return carry > 0 ? undefined : next;
}

/** Whether every address in `cidrs` of `inner` is in `cidrs` of `outer`. */
export function coversNetworks(outer: PeerMatch, inner: PeerMatch): boolean {
  if (outer.cidrs === undefined) return true;
  if (inner.cidrs === undefined) return false;
  const larger = setOf(networksOf(outer).cidrs);
  return networksOf(inner).cidrs.every((network) => larger.contains(network));
}

/** Whether `inner` matches no address that `outer` excludes. */
export function coversExceptions(outer: PeerMatch, inner: PeerMatch): boolean {
  if (outer.exceptCidrs === undefined) return true;
  const { cidrs, excepts } = networksOf(inner);
  const [allowed, taken] = [setOf(cidrs), setOf(excepts)];
  return networksOf(outer).excepts.every((hole) => taken.contains(hole) || allowed.overlapping(hole).length === 0);
}
