import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { cidrContains, formatCidr, ipBytes, parseCidr, parseIp, type Cidr } from '../../../shared/address.js';
import { NetworkSet } from '../../../shared/network-set.js';
import { overlapOfPeers } from '../../../controller/compile/check/peer-overlap.js';
import { propertyHits, propertyRuns } from '../../support/property-runs.js';

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  assert.ok(parsed, text);
  return parsed;
}

/** Addresses in two small corners of both families, so that networks contain each other often. */
const host = fc.record({ isV6: fc.boolean(), low: fc.nat(15), isEnd: fc.boolean() }).map(({ isV6, low, isEnd }) => {
  if (isV6) return isEnd ? `ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff${low.toString(16)}` : `::${low.toString(16)}`;
  return isEnd ? `255.255.255.${240 + low}` : `10.0.0.${low}`;
});
const network = fc.tuple(host, fc.nat(4), fc.constantFrom(0, 0, 0, 20)).map(([text, spare, more]) => {
  const bytes = ipBytes(parseIp(text)!);
  const prefixLength = bytes.length * 8 - spare - more;
  const cleared = bytes.map(
    (byte, index) => byte & ~(0xff >> Math.min(8, Math.max(0, prefixLength - index * 8))) & 0xff,
  );
  const base = bytes.length === 4 ? cleared.join('.') : groupsOf(cleared);
  return cidr(`${base}/${prefixLength}`);
});
const networks = fc.array(network, { maxLength: 12 });

function groupsOf(bytes: readonly number[]): string {
  const groups = Array.from({ length: 8 }, (_, at) => ((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0));
  return parseIp(groups.map((group) => group.toString(16)).join(':'))!;
}

function contains(outer: Cidr, inner: Cidr): boolean {
  return outer.prefixLength <= inner.prefixLength && cidrContains(outer, inner.bytes);
}

test('a set of networks answers as a comparison with each of them', () => {
  let overlapping = 0;
  fc.assert(
    fc.property(networks, network, host, (list, other, address) => {
      const set = new NetworkSet({ networks: list });
      const ip = ipBytes(parseIp(address)!);
      assert.equal(
        set.has(ip),
        list.some((each) => cidrContains(each, ip)),
      );
      assert.equal(
        set.contains(other),
        list.some((each) => contains(each, other)),
      );
      const common = list.filter((each) => contains(each, other) || contains(other, each));
      const widest = common.filter(
        (each) => !list.some((larger) => larger.prefixLength < each.prefixLength && contains(larger, each)),
      );
      assert.deepEqual(new Set(set.overlapping(other).map(formatCidr)), new Set(widest.map(formatCidr)));
      overlapping += widest.length;
    }),
    { numRuns: propertyRuns(1500) },
  );
  assert.ok(overlapping > propertyHits(500), `${overlapping} networks overlapped`);
});

test('an address that two matches allow is found if there is one', () => {
  const seen = { found: 0, none: 0 };
  const match = fc.record({ cidrs: fc.array(network, { minLength: 1, maxLength: 4 }), exceptCidrs: networks });
  fc.assert(
    fc.property(match, match, networks, (a, b, named) => {
      const texts = [a, b].map(({ cidrs, exceptCidrs }) => ({
        cidrs: cidrs.map(formatCidr),
        exceptCidrs: exceptCidrs.map(formatCidr),
        external: true as const,
      }));
      const [left = {}, right = {}] = texts;
      const found = overlapOfPeers(left, right, named);
      const isIn = (list: readonly Cidr[], ip: readonly number[]) => list.some((each) => cidrContains(each, ip));
      const isAllowed = (ip: readonly number[]) =>
        [a, b].every(({ cidrs, exceptCidrs }) => isIn(cidrs, ip) && !isIn(exceptCidrs, ip)) && !isIn(named, ip);
      if (found !== undefined) {
        const [, text = ''] = /with address (\S+)/.exec(found) ?? [];
        assert.ok(isAllowed(ipBytes(parseIp(text)!)), `${text} is not in both`);
      }
      seen[found === undefined ? 'none' : 'found']++;
      if (found !== undefined) return;
      // Every border of a network is an address at which the answer can change.
      for (const { bytes } of [...a.cidrs, ...b.cidrs]) assert.ok(!isAllowed(bytes));
      for (const each of [...a.exceptCidrs, ...b.exceptCidrs, ...named]) {
        const after = next(each);
        if (after !== undefined) assert.ok(!isAllowed(after), `${after.join('.')} is in both`);
      }
    }),
    { numRuns: propertyRuns(1500) },
  );
  assert.ok(Math.min(seen.found, seen.none) > propertyHits(150), JSON.stringify(seen));
});

/** The first address after a network, by plain arithmetic. */
function next({ bytes, prefixLength }: Cidr): number[] | undefined {
  const bits = bytes.length * 8;
  const after = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n) + 2n ** BigInt(bits - prefixLength);
  if (after >= 2n ** BigInt(bits)) return undefined;
  return bytes.map((_, index) => Number((after >> BigInt(bits - 8 * (index + 1))) & 255n));
}
