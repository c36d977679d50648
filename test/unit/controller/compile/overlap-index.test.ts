import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { coversPeers } from '../../../../controller/analysis/lint/peer-cover.js';
import { commonPorts } from '../../../../controller/compile/check/common-ports.js';
import { overlapOfGroups } from '../../../../controller/compile/check/group-overlap.js';
import { OverlapIndex } from '../../../../controller/compile/check/overlap-index.js';
import { overlapOfPeers } from '../../../../controller/compile/check/peer-overlap.js';
import { requirementsOfRule } from '../../../../controller/compile/check/requirements.js';
import { SegmentMembers, type PeerGroups } from '../../../../controller/compile/segment-members.js';
import type { PeerMatch, RulePort } from '../../../../shared/policy/snapshot.js';
import { peerMatch } from '../../../support/rules/policy-arbitraries.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

const noPeer: PeerMatch = { workloads: [] };
const group = fc.array(fc.oneof({ weight: 9, arbitrary: peerMatch }, fc.constant(noPeer)), { maxLength: 3 });
const side = fc.oneof(
  fc.array(group, { maxLength: 2 }),
  peerMatch.map((match) => [[match]]),
);
const ports = fc.constantFrom<RulePort[]>([], [[1, 3]], [[3, 3]], [[2, 2]], [[4, 60_000]], ['http'], [[1, 1], 'db']);
const rules = fc.array(fc.record({ from: side, to: side, ports }), { minLength: 2, maxLength: 8 });

function indexOf(list: readonly { from: PeerGroups; to: PeerGroups; ports: readonly RulePort[] }[]) {
  const items = list.map((rule, position) => [position, requirementsOfRule(rule)] as const);
  return new OverlapIndex({ items });
}

test('an index leaves out no rule that overlaps with another or covers it', () => {
  const seen = { overlapping: 0, covering: 0, left: 0 };
  fc.assert(
    fc.property(rules, (list) => {
      const index = indexOf(list);
      for (const [position, rule] of list.entries()) {
        const found = index.candidates(requirementsOfRule(rule));
        assert.deepEqual(
          found,
          [...new Set(found)].sort((a, b) => a - b),
        );
        seen.left += list.length - found.length;
        for (const [at, other] of list.entries()) {
          if (at === position || commonPorts(rule.ports, other.ports) === undefined) continue;
          const isOverlapping = [
            [rule.from, other.from],
            [rule.to, other.to],
          ].every(([a = [], b = []]) => overlapOfGroups(a, b) !== undefined);
          const isCovered = coversPeers(other.to, rule.to) && coversPeers(other.from, rule.from);
          if (isOverlapping) seen.overlapping++;
          // What matches no party is covered by everything, and nothing follows from that.
          const isEmpty = [rule.from, rule.to].some((groups) => groups.length > 0 && groups.flat().length === 0);
          if (isCovered && !isEmpty) seen.covering++;
          if (isOverlapping || (isCovered && !isEmpty)) assert.ok(found.includes(at));
        }
      }
    }),
    { numRuns: propertyRuns(1000) },
  );
  assert.ok(Math.min(...Object.values(seen)) > propertyHits(100), JSON.stringify(seen));
});

test('rules that exclude each other are not looked at, whatever it is that excludes them', () => {
  const size = 50;
  const ways: Readonly<Record<string, (index: number) => Parameters<typeof requirementsOfRule>[0]>> = {
    namespaces: (index) => ({ from: [], to: [[{ namespaces: [`n${index}`] }]], ports: [] }),
    accounts: (index) => ({ from: [[{ serviceAccounts: [`n/a${index}`] }]], to: [], ports: [] }),
    labels: (index) => ({ from: [], to: [[{ namespaces: ['n'], labels: { app: `a${index}` } }]], ports: [] }),
    networks: (index) => ({ from: [], to: [[{ cidrs: [`10.${index}.0.0/16`] }]], ports: [] }),
    ports: (index) => ({ from: [], to: [], ports: [[index + 1, index + 1]] }),
  };
  for (const [what, rule] of Object.entries(ways)) {
    const list = Array.from({ length: size }, (_, index) => rule(index));
    assert.deepEqual(indexOf(list).candidates(requirementsOfRule(rule(7))), [7], what);
  }
});

test('networks are found around, within and beside each other', () => {
  const texts = [
    '0.0.0.0/0',
    '10.0.0.0/8',
    '10.1.0.0/16',
    '10.1.2.0/24',
    '10.2.0.0/16',
    '11.0.0.0/8',
    '::/0',
    'fd00::/8',
  ];
  const ruleFor = (cidr: string) => ({ from: [], to: [[{ cidrs: [cidr] }]], ports: [] });
  const index = indexOf(texts.map(ruleFor));
  for (const asked of [...texts, '10.1.2.3', '12.0.0.1', 'fd00::1']) {
    const expected = texts.filter((text) => overlapOfPeers({ cidrs: [text] }, { cidrs: [asked] }) !== undefined);
    assert.deepEqual(
      index.candidates(requirementsOfRule(ruleFor(asked))).map((at) => texts[at]),
      expected,
      asked,
    );
  }
});

test('rules that name a large segment are not indexed by each of its members', () => {
  const members = Array.from({ length: 1000 }, (_, index) => ({ namespaces: ['n'], labels: { app: `a${index}` } }));
  const segments = new SegmentMembers({ segments: [{ name: 's', members }] });
  const groups = segments.groupsOf([{ memberOf: 's' }]);
  const { values } = requirementsOfRule({ from: groups, to: [[{ serviceAccounts: ['n/a'] }]], ports: [] });
  assert.deepEqual([...values.keys()].sort(), ['from namespaces', 'to namespaces', 'to serviceAccounts']);
  assert.equal(segments.groupsOf([{ memberOf: 's' }])[0], groups[0]);
});
