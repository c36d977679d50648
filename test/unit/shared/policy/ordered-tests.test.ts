import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { PortNames } from '../../../../shared/policy/connection.js';
import { OrderedTests } from '../../../../shared/policy/prepared/ordered-tests.js';
import { PortIndex } from '../../../../shared/policy/prepared/port-index.js';
import { matchesPorts } from '../../../../shared/policy/prepared/prepared-rule.js';
import type { RulePort } from '../../../../shared/policy/snapshot.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

const rulePorts = fc.constantFrom<RulePort[]>(
  [],
  [[1, 1]],
  [[2, 4]],
  [
    [2, 4],
    [6, 6],
  ],
  ['http'],
  [[3, 3], 'db'],
  [[1, 60_000]],
);
const named = fc.constantFrom<PortNames | null>(
  null,
  {},
  { http: 2 },
  { http: 3, db: 5 },
  { db: 3, http: 3, constructor: 4 },
);
const port = fc.integer({ min: 1, max: 7 });

describe('PortIndex', () => {
  it('finds the rules for a port as a comparison with each, with the names of the destination', () => {
    let byName = 0;
    fc.assert(
      fc.property(
        fc.array(rulePorts, { maxLength: 40 }),
        fc.array(fc.tuple(port, named), { maxLength: 8 }),
        (ports, asked) => {
          const index = new PortIndex({ ports });
          for (const [number, names] of asked) {
            const bits = index.matching(number, names);
            for (const [position, entries] of ports.entries()) {
              const isSet = ((bits[position >>> 5] ?? 0) & (1 << (position & 31))) !== 0;
              assert.equal(isSet, matchesPorts(entries, number, names));
              if (isSet && !matchesPorts(entries, number, null)) byName++;
            }
          }
        },
      ),
      { numRuns: propertyRuns(1000) },
    );
    assert.ok(byName > propertyHits(200), `${byName} matched by name`);
  });
});

/** Matches parties by one of its letters; `keys` null: finds them by trying. */
type Item = { readonly letters: string; readonly isKeyed: boolean; readonly ports: readonly RulePort[] };
const item: fc.Arbitrary<Item> = fc.record({
  letters: fc.constantFrom('a', 'b', 'ab', 'c', 'z'),
  isKeyed: fc.boolean(),
  ports: rulePorts,
});

function testsOf(items: readonly Item[], onTest: () => void = () => {}) {
  return new OrderedTests<Item, string>({
    items,
    keysOf: ({ letters, isKeyed }) => (isKeyed ? letters.split('') : null),
    matches: ({ letters }, party) => {
      onTest();
      return letters.includes(party);
    },
    portsOf: ({ ports }) => ports,
    alternativesOf: () => 1,
  });
}

describe('ordered tests', () => {
  it('find the first item as trying each in order, whether they are few or many', () => {
    const parties = ['a', 'b', 'c'].map((party) => ({ party, view: { party } }));
    const question = fc.record({
      of: fc.constantFrom(...parties),
      port,
      names: named,
      skipped: fc.constantFrom('', 'a'),
    });
    const seen = { few: 0, many: 0, found: 0 };
    fc.assert(
      fc.property(fc.array(item, { maxLength: 90 }), fc.array(question, { maxLength: 8 }), (items, asked) => {
        const tests = testsOf(items);
        seen[items.length < 10 ? 'few' : 'many']++;
        for (const { of, port: number, names, skipped } of asked) {
          const holds = (candidate: Item): boolean => candidate.letters !== skipped;
          const expected = items.find(
            (each) => each.letters.includes(of.party) && matchesPorts(each.ports, number, names) && holds(each),
          );
          assert.equal(tests.first({ ...of, keys: [null, of.party], port: number, names }, holds), expected);
          if (expected !== undefined) seen.found++;
        }
      }),
      { numRuns: propertyRuns(1000) },
    );
    assert.ok(Math.min(...Object.values(seen)) > propertyHits(50), JSON.stringify(seen));
  });

  it('ask a party once by each of many items, however often they decide, and none that its keys exclude', () => {
    let asked = 0;
    const items = Array.from({ length: 1000 }, (_, index): Item => {
      return { letters: index % 2 === 0 ? 'a' : 'b', isKeyed: index % 2 === 0, ports: [[index + 1, index + 1]] };
    });
    const tests = testsOf(items, () => asked++);
    const party = { party: 'b', view: {}, keys: ['b'], names: null };
    for (let number = 1; number <= 1000; number++) {
      assert.equal(tests.first({ ...party, port: number }), number % 2 === 0 ? items[number - 1] : undefined);
    }
    assert.equal(asked, 500);
  });
});
