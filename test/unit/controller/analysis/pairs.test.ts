import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { blastRadius } from '../../../../controller/analysis/reach/blast-radius.js';
import { diffPairs } from '../../../../controller/analysis/diff/diff-pairs.js';
import { cidrRegions } from '../../../../controller/analysis/pairs/cidr-regions.js';
import type { MeshParty } from '../../../../controller/analysis/pairs/mesh-party.js';
import { predict } from '../../../../controller/analysis/pairs/predict.js';
import { reachability } from '../../../../controller/analysis/reach/reachability.js';
import type { RuleSet } from '../../../../controller/analysis/pairs/rule-set.js';
import { areOneWorkload } from '../../../../shared/policy/own-traffic.js';
import { formatRuleRef } from '../../../../shared/policy/connection.js';
import { withSharedSegments } from '../../../support/rules/shared-segments.js';
import type { PortRange } from '../../../../shared/policy/snapshot.js';
import { parseCidr, cidrContains, ipBytes } from '../../../../shared/address.js';
import type { RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import { workloadEntry } from '../../../support/rules/analysis-fixture.js';
import { clocks, endsOf, registries, snapshots } from '../../../support/rules/analysis-world.js';
import { clock, snapshotOf } from '../../../support/rules/policy-fixture.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

const ports = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 65_535];

/** Whether one of the names in an answer means this end, as a reader would take it. */
function isNamed(names: readonly string[], end: MeshParty): boolean {
  const { ip, workload } = end.party;
  if (workload !== null) return names.includes(end.name) || names.includes(`${end.name}[${ip}]`);
  return false;
}

/** What the answer calls the part of the address space that an address outside is in. */
function regionOf(set: RuleSet, end: MeshParty): string {
  const regions = cidrRegions([set.snapshot]).filter(({ network }) => contains(network, end));
  return `external ${regions.at(-1)?.name ?? ''}`;
}

function contains(network: string, { party }: MeshParty): boolean {
  const cidr = parseCidr(network);
  return cidr !== undefined && cidrContains(cidr, ipBytes(party.ip));
}

function isIn([first, last]: PortRange, port: number): boolean {
  return first <= port && port <= last;
}

function canTalk(source: MeshParty, destination: MeshParty): boolean {
  return (
    source.party.ip.includes(':') === destination.party.ip.includes(':') && (source.isMeshed || destination.isMeshed)
  );
}

function meshPairs(set: RuleSet): { source: MeshParty; destination: MeshParty }[] {
  const ends = endsOf(set);
  return (
    ends
      .flatMap((source) => ends.map((destination) => ({ source, destination })))
      .filter(({ source, destination }) => canTalk(source, destination))
      // What a workload sends to itself is always allowed, and no answer is about it.
      .filter(({ source, destination }) => !areOneWorkload(source.party, destination.party))
  );
}

describe('the matrix', () => {
  it('agrees with the evaluator on every pair and port', () => {
    let allowed = 0;
    fc.assert(
      fc.property(snapshots, registries, clocks, (snapshot, entries, clock) => {
        const set = { snapshot, entries };
        const groups = reachability({ ...set, clock });
        for (const { source, destination } of meshPairs(set)) {
          if (source.party.workload === null || destination.party.workload === null) continue;
          const found = groups.filter(
            (group) => isNamed(group.sources, source) && isNamed(group.destinations, destination),
          );
          for (const port of ports) {
            const decision = predict(snapshot, { source, destination, port }, clock);
            const hits = found.flatMap((group) => group.allowed.filter((reached) => isIn(reached.ports, port)));
            assert.equal(hits.length, decision.verdict === 'allow' ? 1 : 0);
            if (decision.verdict === 'allow') {
              allowed++;
              assert.equal(hits[0]?.rule, formatRuleRef(decision.rule));
            }
          }
        }
      }),
      { numRuns: propertyRuns(150) },
    );
    assert.ok(allowed > propertyHits(1000), `only ${allowed} pairs were allowed`);
  });

  it('agrees with the evaluator on addresses outside', () => {
    fc.assert(
      fc.property(snapshots, registries, clocks, (snapshot, entries, clock) => {
        const set = { snapshot, entries };
        const groups = reachability({ ...set, clock });
        for (const { source, destination } of meshPairs(set)) {
          if (destination.party.workload !== null || source.party.workload === null) continue;
          const region = regionOf(set, destination);
          const found = groups.filter((group) => isNamed(group.sources, source) && group.destinations.includes(region));
          for (const port of ports) {
            const decision = predict(snapshot, { source, destination, port }, clock);
            const hits = found.flatMap((group) => group.allowed.filter((reached) => isIn(reached.ports, port)));
            assert.deepEqual(
              hits.map(({ rule }) => rule),
              decision.verdict === 'allow' ? [formatRuleRef(decision.rule)] : [],
            );
          }
        }
      }),
      { numRuns: propertyRuns(100) },
    );
  });

  it('names an address only where those of a workload differ', () => {
    const snapshot = snapshotOf({ rules: [{ name: 'v4', to: [{ cidrs: ['198.18.0.0/15'] }], ports: [[80, 80]] }] });
    const entries = [workloadEntry('a/x', ['198.18.0.1', 'fd00::1']), workloadEntry('a/y', ['198.18.0.2'])];
    const groups = reachability({ snapshot, entries, clock });
    const inside = groups.filter(({ destinations }) => destinations.includes('a/y'));
    assert.equal(inside.length, 1);
    assert.deepEqual(inside[0]?.destinations, ['a/x[198.18.0.1]', 'a/y']);
    assert.deepEqual(inside[0].allowed, [{ ports: [80, 80], rule: 'SegmentationRule/v4', audited: [] }]);
  });
});

describe('the difference of two sets', () => {
  it('agrees with evaluating both sets', () => {
    const seen = { allowed: 0, denied: 0 };
    fc.assert(
      fc.property(
        snapshots,
        snapshots,
        registries,
        registries,
        fc.boolean(),
        clocks,
        (old, fresh, one, other, isSame, clock) => {
          const before = { snapshot: old, entries: one };
          const after = { snapshot: fresh, entries: isSame ? one : other };
          const { changed } = diffPairs({ before, after, clock });
          const later = new Map(endsOf(after).map((end) => [`${end.name} ${end.party.ip}`, end]));
          for (const { source, destination } of meshPairs(before)) {
            if (source.party.workload === null || destination.party.workload === null) continue;
            const [sourceAfter, destinationAfter] = [source, destination].map((end) =>
              later.get(`${end.name} ${end.party.ip}`),
            );
            assert.ok(sourceAfter && destinationAfter);
            const found = changed.filter(
              (group) => isNamed(group.sources, source) && isNamed(group.destinations, destination),
            );
            for (const port of ports) {
              const was = predict(old, { source, destination, port }, clock);
              const will = predict(fresh, { source: sourceAfter, destination: destinationAfter, port }, clock);
              const hits = found.flatMap((group) => group.changes.filter((change) => isIn(change.ports, port)));
              if (was.verdict === will.verdict) assert.deepEqual(hits, []);
              else {
                const change = will.verdict === 'deny' ? 'denied' : 'allowed';
                seen[change]++;
                assert.deepEqual(
                  hits.map((hit) => [hit.change, hit.before, hit.after]),
                  [[change, formatRuleRef(was.rule), formatRuleRef(will.rule)]],
                );
              }
            }
          }
        },
      ),
      { numRuns: propertyRuns(150) },
    );
    assert.ok(Math.min(seen.allowed, seen.denied) > propertyHits(500), JSON.stringify(seen));
  });

  it('is empty between a set and itself', () => {
    fc.assert(
      fc.property(snapshots, registries, clocks, (snapshot, entries, clock) => {
        const set = { snapshot, entries };
        assert.deepEqual(diffPairs({ before: set, after: structuredClone(set), clock }).changed, []);
        const after = { snapshot: withSharedSegments(snapshot), entries };
        assert.deepEqual(diffPairs({ before: set, after, clock }).changed, []);
        assert.deepEqual(reachability({ ...after, clock }), reachability({ ...set, clock }));
      }),
      { numRuns: propertyRuns(50) },
    );
  });

  it('tells workloads that only one registry has', () => {
    const snapshot = snapshotOf({});
    const [x, y] = [workloadEntry('a/x', ['198.18.0.1']), workloadEntry('a/y', ['198.18.0.2'])];
    const diff = diffPairs({ before: { snapshot, entries: [x] }, after: { snapshot, entries: [y] }, clock });
    const { ofAdded, ...rest } = diff;
    assert.deepEqual(rest, { changed: [], addedWorkloads: ['a/y'], removedWorkloads: ['a/x'] });
    assert.ok(ofAdded.length > 0);
  });

  it('tells what is decided between new workloads, and between them and the rest', () => {
    const rule = {
      name: 'only-80',
      action: 'allow',
      from: [{ workloads: ['a/x'] }],
      to: [{ workloads: ['a/y', 'a/z'] }],
    } as const;
    const [before, after] = [snapshotOf({}), snapshotOf({ rules: [{ ...rule, ports: [[80, 80]] }] })];
    const entries = ['x', 'y', 'z'].map((name, index) => workloadEntry(`a/${name}`, [`198.18.0.${index + 1}`]));
    const [x, y] = entries;
    assert.ok(x !== undefined && y !== undefined);
    const of = (old: readonly RegistryEntry[]) =>
      diffPairs({ before: { snapshot: before, entries: old }, after: { snapshot: after, entries }, clock }).ofAdded;
    const pairsOf = (old: readonly RegistryEntry[]) =>
      of(old).flatMap(({ sources, destinations, outcomes }) =>
        sources.flatMap((source) => destinations.map((destination) => ({ source, destination, outcomes }))),
      );
    const verdictOf = (old: readonly RegistryEntry[], source: string, destination: string) => {
      const found = pairsOf(old).filter((pair) => pair.source === source && pair.destination === destination);
      assert.ok(found.length <= 1, `${source} -> ${destination} once`);
      return found[0]?.outcomes.map(({ ports, verdict }) => `${verdict} ${ports.join('-')}`).join(', ');
    };
    const cut = 'deny 1-79, allow 80-80, deny 81-65535';
    // On a mesh without workloads.
    assert.equal(verdictOf([], 'a/x', 'a/y'), cut);
    assert.equal(verdictOf([], 'a/y', 'a/x'), 'deny 1-65535');
    // With two that were there: their own pairs belong to what changed.
    assert.equal(verdictOf([x, y], 'a/x', 'a/z'), cut);
    assert.equal(verdictOf([x, y], 'a/z', 'a/x'), 'deny 1-65535');
    assert.equal(verdictOf([x, y], 'a/x', 'a/y'), undefined);
    assert.deepEqual(of(entries), []);
    const alone = diffPairs({
      before: { snapshot: before, entries: [] },
      after: { snapshot: after, entries: [x] },
      clock,
    });
    assert.ok(alone.ofAdded.every(({ sources, destinations }) => sources.join() !== destinations.join()));
  });
});

describe('the blast radius', () => {
  const hop = (from: string, to: string) => ({
    name: `${from}-${to}`,
    from: [{ workloads: [`a/${from}`] }],
    to: [{ workloads: [`a/${to}`] }],
    ports: [[80, 80]] as const,
  });
  const snapshot = snapshotOf({ rules: [hop('w', 'x'), hop('x', 'y'), hop('y', 'z'), hop('x', 'w')] });
  const entries = ['w', 'x', 'y', 'z'].map((name, index) => workloadEntry(`a/${name}`, [`198.18.0.${index + 1}`]));

  it('follows the rules for the hops that are asked for', () => {
    const found = blastRadius({ snapshot, entries, workload: 'a/w', maxHops: 2, clock });
    assert.deepEqual(
      found.map(({ name, hops, via, allowed }) => [name, hops, via, allowed[0]?.rule]),
      [
        ['a/x', 1, 'a/w', 'SegmentationRule/w-x'],
        ['a/y', 2, 'a/x', 'SegmentationRule/x-y'],
      ],
    );
    assert.equal(blastRadius({ snapshot, entries, workload: 'a/w', maxHops: 9, clock }).length, 3);
    assert.deepEqual(blastRadius({ snapshot, entries, workload: 'a/unknown', maxHops: 9, clock }), []);
  });

  it('goes where no agent is, because nothing is enforced there', () => {
    const legacy = [
      workloadEntry('a/m', ['198.18.0.8'], { node: null }),
      workloadEntry('a/n', ['198.18.0.9'], { node: null }),
    ];
    const found = blastRadius({ snapshot, entries: [...entries, ...legacy], workload: 'a/m', maxHops: 1, clock });
    assert.deepEqual(
      found.filter(({ name }) => name.startsWith('a/')).map(({ name, allowed }) => [name, allowed]),
      [['a/n', [{ ports: [1, 65_535], rule: null, audited: [] }]]],
    );
  });
});
