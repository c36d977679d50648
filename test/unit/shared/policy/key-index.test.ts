import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { KeyIndex } from '../../../../shared/policy/prepared/key-index.js';
import { propertyRuns } from '../../../support/property-runs.js';

type Item = { readonly keys: readonly string[] | null; readonly holds: boolean };

const key: fc.Arbitrary<string> = fc.constantFrom('a', 'b', 'c');
const item: fc.Arbitrary<Item> = fc.record({
  keys: fc.option(fc.array(key, { maxLength: 3 })),
  holds: fc.boolean(),
});

describe('KeyIndex', () => {
  it('finds what a scan of the whole list finds, in its order', () => {
    const lists = fc.array(item, { maxLength: 12 });
    fc.assert(
      fc.property(lists, fc.uniqueArray(key), (items, keys) => {
        const index = new KeyIndex({ items, keysOf: (each) => each.keys });
        const isFound = (each: Item): boolean =>
          each.holds && (each.keys === null || each.keys.some((name) => keys.includes(name)));
        const expected = items.filter(isFound);
        assert.deepEqual(
          index.all(keys, ({ holds }) => holds),
          expected,
        );
        assert.equal(
          index.first([...keys, null], ({ holds }) => holds),
          expected[0],
        );
      }),
      { numRuns: propertyRuns(1000) },
    );
  });

  it('tests nothing that none of the keys concerns', () => {
    const items = Array.from({ length: 1000 }, (_, number) => ({ keys: [`k${number}`] }));
    const index = new KeyIndex({ items, keysOf: ({ keys }) => keys });
    let tests = 0;
    const count = (): boolean => (tests++, false);
    index.first(['k7', null], count);
    index.all(['k8', 'k9'], count);
    assert.equal(tests, 3);
  });
});
