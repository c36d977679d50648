import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { NamePatterns } from '../../../../shared/policy/prepared/name-patterns.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

const text = fc.array(fc.constantFrom('a', 'b', '/', 'é', '\uffff'), { maxLength: 4 }).map((parts) => parts.join(''));
const pattern = fc.tuple(text, fc.constantFrom('', 'start', 'end')).map(([name, star]) => {
  if (star === '') return name === '' ? '*' : name;
  return star === 'start' ? `*${name}` : `${name}*`;
});

test('patterns match as Istio compares each of them', () => {
  let matching = 0;
  fc.assert(
    fc.property(fc.array(pattern, { maxLength: 8 }), text, (values, name) => {
      const expected = values.some((value) => {
        if (value === '*') return true;
        if (value.startsWith('*')) return name.endsWith(value.slice(1));
        return value.endsWith('*') ? name.startsWith(value.slice(0, -1)) : value === name;
      });
      assert.equal(new NamePatterns({ values }).has(name), expected);
      if (expected) matching++;
    }),
    { numRuns: propertyRuns(2000) },
  );
  assert.ok(matching > propertyHits(300), `${matching} matched`);
  assert.equal(new NamePatterns({ values: ['*'] }).has(null), false);
});
