import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCidr, ipBytes } from '../../../../shared/address.js';
import { BoundedCache } from '../../../../shared/policy/prepared/bounded-cache.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { NetworkIndex } from '../../../../shared/policy/prepared/network-index.js';
import { PortIndex } from '../../../../shared/policy/prepared/port-index.js';
import {
  addBits,
  emptyBits,
  filledWords,
  findInAll,
  setBit,
  type RuleBits,
} from '../../../../shared/policy/prepared/rule-bits.js';
import { clock, connection, db, ip, meshed, snapshotOf } from '../../../support/rules/policy-fixture.js';

function bitsOf(...positions: number[]): RuleBits {
  const bits = emptyBits(200);
  for (const position of positions) setBit(bits, position);
  return bits;
}

describe('a set of rules', () => {
  it('finds the next rule that is in all three sets', () => {
    const [a, b, c] = [bitsOf(0, 31, 32, 63, 64, 150, 199), bitsOf(0, 31, 63, 150, 199), bitsOf(0, 31, 63, 64, 199)];
    const found = (start: number, end: number): number[] => {
      const positions: number[] = [];
      findInAll({ words: filledWords(a), a, b, c }, start, end, (position) => void positions.push(position));
      return positions;
    };
    assert.deepEqual(found(0, 200), [0, 31, 63, 199]);
    assert.deepEqual(found(1, 31), []);
    assert.deepEqual(found(1, 32), [31]);
    assert.deepEqual(found(64, 199), []);
    assert.deepEqual(found(200, 200), []);
    const first = findInAll({ words: filledWords(a), a, b, c }, 1, 200, (position) =>
      position > 31 ? position : undefined,
    );
    assert.equal(first, 63);
  });

  it('takes another set in', () => {
    const bits = bitsOf(1, 40);
    addBits(bits, bitsOf(0, 40, 199));
    assert.deepEqual(bits, bitsOf(0, 1, 40, 199));
  });
});

describe('PortIndex', () => {
  it('says which rules are about a port', () => {
    const index = new PortIndex({
      ports: [
        [],
        [[80, 90]],
        [
          [85, 85],
          [1, 1],
        ],
        [[65_535, 65_535]],
      ],
    });
    const rules = (port: number) => {
      const bits = index.matching(port)[0] ?? 0;
      return [0, 1, 2, 3].filter((position) => (bits & (1 << position)) !== 0).join('');
    };
    const ports = [1, 2, 79, 80, 84, 85, 86, 90, 91, 65_534, 65_535];
    assert.deepEqual(ports.map(rules), ['02', '0', '0', '01', '01', '012', '01', '01', '0', '0', '03']);
  });
});

describe('NetworkIndex', () => {
  it('finds the networks that hold an address', () => {
    const index = new NetworkIndex<string>();
    for (const text of ['0.0.0.0/0', '10.0.0.0/8', '10.0.0.0/9', '10.128.0.0/9', '10.0.0.1', '::/0', 'fd00::/12']) {
      const cidr = parseCidr(text);
      assert.ok(cidr);
      index.add(cidr, text);
    }
    const found = (text: string) => {
      const values: string[] = [];
      index.forEach(ipBytes(ip(text)), (value) => values.push(value));
      return values.sort().join(' ');
    };
    assert.equal(found('10.0.0.1'), '0.0.0.0/0 10.0.0.0/8 10.0.0.0/9 10.0.0.1');
    assert.equal(found('10.200.0.1'), '0.0.0.0/0 10.0.0.0/8 10.128.0.0/9');
    assert.equal(found('192.0.2.1'), '0.0.0.0/0');
    assert.equal(found('fd0f::1'), '::/0 fd00::/12');
    assert.equal(found('fd10::1'), '::/0');
  });
});

describe('BoundedCache', () => {
  it('never holds more than it may, and keeps what is used', () => {
    const cache = new BoundedCache<number, string>({ maxEntries: 10 });
    for (let key = 0; key < 1000; key++) {
      cache.set(key, String(key));
      assert.equal(cache.get(0), '0');
      assert.ok(cache.size <= 10, `${cache.size} entries`);
    }
    assert.equal(cache.get(999), '999');
    assert.equal(cache.get(500), undefined);
  });
});

describe('what the evaluator keeps', () => {
  it('follows a workload whose labels, account or identity change', () => {
    const snapshot = snapshotOf({ rules: [{ from: [{ labels: { app: 'api' } }], to: [{ labels: { app: 'db' } }] }] });
    const verdict = (source = connection().source, destination = db) =>
      evaluate(snapshot, connection({ source, destination }), clock).verdict;
    const source = meshed('billing/api', '198.18.0.1');
    const relabelled = meshed('billing/api', '198.18.0.1', { labels: { app: 'web' } });
    assert.deepEqual(
      [verdict(source), verdict(relabelled), verdict(source), verdict({ ...source, identity: null }), verdict(source)],
      ['allow', 'deny', 'allow', 'deny', 'allow'],
    );
    const more = meshed('billing/db', '198.18.0.2', { labels: { app: 'db', tier: 'x' } });
    const other = meshed('billing/db', '198.18.0.2', { labels: { app: 'x' } });
    assert.deepEqual([verdict(source), verdict(source, more), verdict(source, other)], ['allow', 'allow', 'deny']);
  });
});
