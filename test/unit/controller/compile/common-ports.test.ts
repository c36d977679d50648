import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { covers } from '../../../../controller/analysis/lint/rule-cover.js';
import { commonPorts } from '../../../../controller/compile/check/common-ports.js';
import { mergeRulePorts } from '../../../../controller/compile/merge-ports.js';
import { matchesPorts } from '../../../../shared/policy/prepared/prepared-rule.js';
import type { RulePort } from '../../../../shared/policy/snapshot.js';
import { snapshotOf } from '../../../support/rules/policy-fixture.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

const written = fc.array(fc.constantFrom(1, 2, 4, 5, '2-4', '6-9', '1-8', 'http', 'db'), { maxLength: 4 });
const numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9];
/** Each port with no name, and with each of the names that rules use. */
const asked = numbers.flatMap((port) => [null, { http: port }, { db: port }].map((names) => ({ port, names })));

test('ports that two rules have in common are found as by trying each port and name', () => {
  const seen = { common: 0, none: 0, byName: 0 };
  fc.assert(
    fc.property(written, written, (a, b) => {
      const [left, right] = [mergeRulePorts(a), mergeRulePorts(b)];
      const both = asked.filter(({ port, names }) => [left, right].every((ports) => matchesPorts(ports, port, names)));
      const found = commonPorts(left, right);
      assert.equal(found !== undefined, both.length > 0);
      seen[found === undefined ? 'none' : 'common']++;
      if (found === undefined) return;
      assert.equal(
        found.hasNumber,
        both.some(({ names }) => names === null),
      );
      if (!found.hasNumber) seen.byName++;
      // Whatever both match is in what is found.
      for (const { port, names } of both) assert.ok(found.ports.length === 0 || matchesPorts(found.ports, port, names));
    }),
    { numRuns: propertyRuns(2000) },
  );
  // Most pairs have a port in common: about 100 of 2,000 have none.
  assert.ok(Math.min(seen.common, seen.byName) > propertyHits(100), JSON.stringify(seen));
  assert.ok(seen.none > propertyHits(40), JSON.stringify(seen));
});

test('ports that cover others are found as by trying each port and name', () => {
  const rule = (ports: readonly RulePort[]) => {
    const [compiled] = snapshotOf({ rules: [{ ports }] }).rules;
    assert.ok(compiled);
    return { ...compiled, from: [], to: [] };
  };
  let covering = 0;
  fc.assert(
    fc.property(written, written, (a, b) => {
      const [outer, inner] = [mergeRulePorts(a), mergeRulePorts(b)];
      if (!covers(rule(outer), rule(inner))) return;
      covering++;
      for (const { port, names } of asked) {
        if (matchesPorts(inner, port, names)) assert.ok(matchesPorts(outer, port, names));
      }
    }),
    { numRuns: propertyRuns(2000) },
  );
  assert.ok(covering > propertyHits(200), `${covering} covers`);
});
