import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { coversPeers } from '../../../../controller/analysis/lint/peer-cover.js';
import { NamespaceIndex } from '../../../../controller/compile/check/namespace-index.js';
import { overlapOfPeerLists } from '../../../../controller/compile/check/peer-overlap.js';
import type { PeerMatch } from '../../../../shared/policy/snapshot.js';
import { peerMatch } from '../../../support/rules/policy-arbitraries.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

const nobody: PeerMatch = { workloads: [] };
const lists = fc.array(
  fc.record({ to: fc.array(fc.oneof({ weight: 9, arbitrary: peerMatch }, fc.constant(nobody)), { maxLength: 3 }) }),
  { minLength: 2, maxLength: 8 },
);

test('the namespaces of destinations leave out no rule that overlaps or covers another', () => {
  let covering = 0;
  fc.assert(
    fc.property(lists, (rules) => {
      const index = new NamespaceIndex({ rules });
      for (const [position, rule] of rules.entries()) {
        const [mayOverlap, mayCover] = [index.mayOverlap(position), index.mayCover(rule)];
        for (const positions of [mayOverlap, ...mayCover]) {
          assert.deepEqual(
            positions,
            [...positions].sort((a, b) => a - b),
          );
        }
        for (const [at, other] of rules.entries()) {
          if (overlapOfPeerLists(rule.to, other.to) !== undefined) assert.ok(mayOverlap.includes(at));
          if (!coversPeers(other.to, rule.to)) continue;
          assert.ok(mayCover.flat().includes(at));
          if (at !== position) covering += 1;
        }
      }
    }),
    { numRuns: propertyRuns(1000) },
  );
  assert.ok(covering > propertyHits(100), `${covering} covers`);
});

test('rules about other namespaces are not looked at', () => {
  const rules = ['a', 'b', 'a'].map((namespace) => ({ to: [{ namespaces: [namespace] }] }));
  const index = new NamespaceIndex({ rules });
  assert.deepEqual(index.mayOverlap(0), [0, 2]);
  assert.deepEqual(index.mayCover({ to: [{ serviceAccounts: ['b/x'] }] }).flat(), [1]);
});
