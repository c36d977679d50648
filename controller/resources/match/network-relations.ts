import ipaddr from 'ipaddr.js';
import { cidrContains, parseCidr, type Cidr } from '../../../shared/address.js';
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

/** An address outside `taken` that `cidrs` and `exceptCidrs` of both matches allow; undefined: any. */
export function commonAddress(a: PeerMatch, b: PeerMatch, taken: readonly Cidr[]): Overlap {
  if (a.cidrs === undefined && b.cidrs === undefined) {
    const isLeft = taken.length === 0 || everything.some((network) => addressOutside(network, taken) !== undefined);
    return isLeft ? undefined : null;
  }
  const [networksA, networksB] = [networksOf(a), networksOf(b)];
  for (const left of networksA.cidrs) {
    for (const right of networksB.cidrs) {
      const smaller = left.prefixLength >= right.prefixLength ? left : right;
      const larger = smaller === left ? right : left;
      if (!cidrContains(larger, smaller.bytes)) continue;
      const address = addressOutside(smaller, [...networksA.excepts, ...networksB.excepts, ...taken]);
      if (address !== undefined) return address;
    }
  }
  return null;
}

/** An address of `network` outside all exceptions, found by bisection; undefined when they cover the whole network. */
function addressOutside(network: Cidr, excepts: readonly Cidr[]): string | undefined {
  if (excepts.some((except) => contains(except, network))) return undefined;
  const inside = excepts.filter((except) => cidrContains(network, except.bytes));
  if (inside.length === 0) return network.base;
  const [low, high] = halves(network);
  return addressOutside(low, inside) ?? addressOutside(high, inside);
}

function halves({ base, bytes, prefixLength }: Cidr): [Cidr, Cidr] {
  const upper = [...bytes];
  const index = Math.floor(prefixLength / 8);
  upper[index] = (upper[index] ?? 0) | (0x80 >> (prefixLength % 8));
  const low = { base, bytes, prefixLength: prefixLength + 1 };
  const high = parseCidr(`${ipaddr.fromByteArray(upper).toString()}/${prefixLength + 1}`);
  return [low, high ?? low];
}

/** Whether every address in `cidrs` of `inner` is in `cidrs` of `outer`. */
export function coversNetworks(outer: PeerMatch, inner: PeerMatch): boolean {
  if (outer.cidrs === undefined) return true;
  if (inner.cidrs === undefined) return false;
  const larger = networksOf(outer).cidrs;
  return networksOf(inner).cidrs.every((network) => larger.some((candidate) => contains(candidate, network)));
}

/** Whether `inner` matches no address that `outer` excludes. */
export function coversExceptions(outer: PeerMatch, inner: PeerMatch): boolean {
  if (outer.exceptCidrs === undefined) return true;
  const { cidrs, excepts } = networksOf(inner);
  const isTakenOut = (hole: Cidr): boolean =>
    excepts.some((except) => contains(except, hole)) ||
    cidrs.every((network) => !contains(network, hole) && !contains(hole, network));
  return networksOf(outer).excepts.every(isTakenOut);
}

function contains(larger: Cidr, smaller: Cidr): boolean {
  return larger.prefixLength <= smaller.prefixLength && cidrContains(larger, smaller.bytes);
}
