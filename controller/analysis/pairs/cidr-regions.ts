import { parseCidr, parseIp, type Cidr, type IpAddress } from '../../../shared/address.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';

/**
 * Addresses that the CIDRs in the rules do not distinguish: those of `network` outside all narrower networks that the
 * rules name. Networks are nested or disjoint, so these regions partition the address space.
 */
export type CidrRegion = {
  /** `10.0.0.0/8`. `0.0.0.0/0` and `::/0` are always included. */
  readonly network: string;
  /** For people: `10.0.0.0/8 except 10.1.0.0/16`. */
  readonly name: string;
  /** The network is a single address. */
  readonly isSingle: boolean;
  /** An address in the region. */
  readonly address: IpAddress;
};

/** All regions that the CIDRs in these sets of rules create, IPv4 first. */
export function cidrRegions(snapshots: readonly Snapshot[]): CidrRegion[] {
  const named = snapshots.flatMap(cidrsOf);
  return [...regionsWithin('0.0.0.0/0', named), ...regionsWithin('::/0', named)];
}

/** The regions that the named CIDRs create within one network. */
export function regionsWithin(network: string, named: readonly string[]): CidrRegion[] {
  const spans = new Map<string, Span>();
  const root = spanOf(network);
  if (root === undefined) return [];
  for (const text of [network, ...named]) {
    const span = spanOf(text);
    if (span !== undefined && span.isIpv6 === root.isIpv6 && root.first <= span.first && span.last <= root.last) {
      spans.set(`${span.first}-${span.last}`, span);
    }
  }
  // Outer networks before inner ones.
  const sorted = [...spans.values()].sort((a, b) => compare(a.first, b.first) || compare(b.last, a.last));
  return sorted.flatMap((span, index) => {
    const inner = directlyInside(span, sorted, index + 1);
    const address = addressOutside(span, inner);
    if (address === undefined) return [];
    return [
      {
        network: span.text,
        name: nameOf(span, inner),
        isSingle: span.first === span.last,
        address: formatAddress(address, span.isIpv6),
      },
    ];
  });
}

const cidrsOfSnapshot = new WeakMap<Snapshot, readonly string[]>();

/** Every string in the rules that is a CIDR, in any field. */
export function cidrsOf(snapshot: Snapshot): readonly string[] {
  const known = cidrsOfSnapshot.get(snapshot);
  if (known !== undefined) return known;
  const found = new Set<string>();
  const { segments, rules, authorizationPolicies, networkPolicies, clusterPolicies, externals } = snapshot;
  collect([segments ?? [], rules, authorizationPolicies, networkPolicies, clusterPolicies ?? [], externals], found);
  const cidrs = [...found].sort();
  cidrsOfSnapshot.set(snapshot, cidrs);
  return cidrs;
}

function collect(value: unknown, found: Set<string>): void {
  if (typeof value === 'string') {
    if (/^[0-9a-fA-F.:]+(?:\/\d+)?$/.test(value) && parseCidr(value) !== undefined) found.add(value);
  } else if (Array.isArray(value)) for (const item of value) collect(item, found);
  else if (typeof value === 'object' && value !== null) for (const item of Object.values(value)) collect(item, found);
}

type Span = { readonly text: string; readonly isIpv6: boolean; readonly first: bigint; readonly last: bigint };

function spanOf(text: string): Span | undefined {
  const cidr: Cidr | undefined = parseCidr(text);
  if (cidr === undefined) return undefined;
  const first = toNumber(cidr.bytes);
  const hostBits = BigInt(cidr.bytes.length * 8 - cidr.prefixLength);
  return { text, isIpv6: cidr.bytes.length === 16, first, last: first + (1n << hostBits) - 1n };
}

/** The widest networks within `outer`, which is just before `start` in the sorted list. */
function directlyInside(outer: Span, sorted: readonly Span[], start: number): Span[] {
  const inside: Span[] = [];
  for (let index = start; index < sorted.length; index++) {
    const span = sorted[index];
    if (span === undefined || span.first > outer.last) break;
    if (span.first > (inside.at(-1)?.last ?? -1n)) inside.push(span);
  }
  return inside;
}

function addressOutside(outer: Span, inner: readonly Span[]): bigint | undefined {
  let free = outer.first;
  for (const { first, last } of inner) {
    if (first > free) break;
    free = last + 1n;
  }
  return free <= outer.last ? free : undefined;
}

/** More exceptions than this are counted, not listed. */
const maxExceptions = 4;

function nameOf(outer: Span, inner: readonly Span[]): string {
  if (inner.length === 0) return outer.text;
  const listed = inner.slice(0, maxExceptions).map(({ text }) => text);
  const more = inner.length > maxExceptions ? ` and ${inner.length - maxExceptions} more` : '';
  return `${outer.text} except ${listed.join(', ')}${more}`;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function toNumber(bytes: readonly number[]): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function formatAddress(value: bigint, isIpv6: boolean): IpAddress {
  const groups = isIpv6 ? 8 : 4;
  const bits = isIpv6 ? 16n : 8n;
  const parts = Array.from({ length: groups }, (_, index) => {
    const part = (value >> (bits * BigInt(groups - 1 - index))) & ((1n << bits) - 1n);
    return part.toString(isIpv6 ? 16 : 10);
  });
  const text = parts.join(isIpv6 ? ':' : '.');
  return parseIp(text) ?? (text as IpAddress);
}
