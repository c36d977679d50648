import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { findAmbiguousRules } from '../../../../controller/compile/check/rule-overlap.js';
import type { Party, PortNames } from '../../../../shared/policy/connection.js';
import { meshWideExternals } from '../../../../shared/policy/prepared/external-addresses.js';
import { matchesPorts } from '../../../../shared/policy/prepared/prepared-rule.js';
import { prepareSnapshot } from '../../../../shared/policy/prepared/prepared-snapshot.js';
import { ruleEffect } from '../../../../shared/policy/rule-effect.js';
import type { CompiledRule, Snapshot } from '../../../../shared/policy/snapshot.js';
import { externals, peerMatch, rule } from '../../../support/rules/policy-arbitraries.js';
import { external, meshed, snapshotOf } from '../../../support/rules/policy-fixture.js';
import { withSharedSegments } from '../../../support/rules/shared-segments.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

/** One address in each region that the networks of `policy-arbitraries` make. */
const addresses = ['10.0.0.1', '10.0.0.2', '10.200.0.1', '192.0.2.7', '203.0.113.1', 'fd00::1'];
const values = [undefined, '1', '2'];
const labelSets = values.flatMap((app) =>
  values.map((tier) => ({ ...(app === undefined ? {} : { app }), ...(tier === undefined ? {} : { tier }) })),
);

/** Every workload of the small world, at every address. */
const workloads: readonly Party[] = ['a/x', 'a/y', 'b/x', 'b/y'].flatMap((name) =>
  ['x', 'y'].flatMap((serviceAccount) =>
    ['n1', 'n2'].flatMap((node) =>
      labelSets.flatMap((labels) =>
        addresses.map((address) => meshed(name, address, { serviceAccount, node, labels })),
      ),
    ),
  ),
);
const unproved = workloads.map((party) => ({ ...party, identity: null }));
const outsiders = addresses.map(external);
const ports = [1, 2, 3, 4, 5, 6, 7, 8, 9];
const instants = [0, 10, 20];

/** A connection and a time at which both rules decide, found by trying all of them with the evaluator's own parts. */
function isAmbiguous(snapshot: Snapshot): boolean {
  const prepared = prepareSnapshot(snapshot);
  const all = (1 << snapshot.rules.length) - 1;
  const decide = (nowMs: number) => snapshot.rules.every((each) => ruleEffect(each, 'x', nowMs) === 'enforced');
  const bits = (set: Int32Array): number => set[0] ?? 0;
  return (
    instants.some(decide) &&
    [...outsiders, ...workloads, ...unproved].some((party) => bits(prepared.source(party).rules) === all) &&
    (ports.some(
      (port) =>
        isForAll(snapshot, port, null) &&
        outsiders.some((party) => bits(prepared.destination(party, port).rules) === all),
    ) ||
      (namedPorts.some((names) => ports.some((port) => isForAll(snapshot, port, names))) &&
        workloads.some((party) => bits(prepared.destination(party, 1).rules) === all)))
  );
}

/** A port has one name at most, so one name at a time shows whether two rules meet. */
const namedPorts: readonly PortNames[] = ports.flatMap((port) => [{ http: port }, { db: port }]);

function isForAll({ rules }: Snapshot, port: number, names: PortNames | null): boolean {
  return rules.every((each) => matchesPorts(each.ports, port, names));
}

/** As documents can say it: a destination is never about who proves nothing. */
const peers = fc.array(peerMatch, { maxLength: 2 });
const destinations = fc.array(
  peerMatch.filter(({ unauthenticated }) => unauthenticated === undefined),
  { maxLength: 2 },
);
const pair = fc
  .tuple(rule, rule, fc.tuple(peers, peers, destinations, destinations), externals)
  .map(([a, b, [fromA, fromB, toA, toB], named]): Snapshot => {
    const rank = { tier: 'team', priority: 1, rollout: 100, mode: 'enforce' } as const;
    const inTime = (each: typeof a) =>
      each.validFromMs !== null && each.expiresAtMs !== null && each.expiresAtMs <= each.validFromMs
        ? { ...each, expiresAtMs: null }
        : each;
    return snapshotOf({
      rules: [
        { ...inTime(a), ...rank, from: fromA, to: toA },
        { ...inTime(b), ...rank, from: fromB, to: toB },
      ],
      rest: { externals: named, namespaces: { a: { team: 'red' }, b: { team: 'red' } } },
    });
  })
  .filter(({ rules: [a, b] }) => a?.action !== b?.action);

describe('the check for ambiguous rules', () => {
  it('agrees with trying every connection of a small world', () => {
    const seen = { ambiguous: 0, clear: 0 };
    fc.assert(
      fc.property(pair, (snapshot) => {
        const isRefused = findAmbiguousRules(snapshot.rules, { externals: meshWideExternals(snapshot) }).length > 0;
        assert.equal(isRefused, isAmbiguous(snapshot));
        const { rules, segments = [] } = withSharedSegments(snapshot);
        assert.equal(
          findAmbiguousRules(rules, { externals: meshWideExternals(snapshot), segments }).length > 0,
          isRefused,
        );
        seen[isRefused ? 'ambiguous' : 'clear']++;
      }),
      { numRuns: propertyRuns(1000) },
    );
    assert.ok(Math.min(seen.ambiguous, seen.clear) > propertyHits(150), JSON.stringify(seen));
  });

  const cases: readonly (readonly [
    what: string,
    a: Partial<CompiledRule>,
    b: Partial<CompiledRule>,
    found: boolean,
  ])[] = [
    [
      'a namespace and the label with the name of another',
      { to: [{ namespaces: ['a'] }] },
      { action: 'deny', to: [{ namespaceLabels: { 'kubernetes.io/metadata.name': 'b' } }] },
      false,
    ],
    ['addresses of a ServiceEntry and what is external', { to: [{ cidrs: ['192.0.2.0/24'] }] }, outside(443), false],
    ['the same on a port without a name', { to: [{ cidrs: ['192.0.2.0/24'] }] }, outside(80), true],
    ['ports with two names', { ports: ['http'] }, { action: 'deny', ports: ['db'] }, false],
    ['a port with a name, and a number', { ports: ['http'] }, { action: 'deny', ports: [[80, 80]] }, true],
    ['a named port, and what is outside', { ports: ['http'] }, { action: 'deny', to: [{ external: true }] }, false],
    [
      'members, and a denial of sources that prove nothing',
      { from: [{ namespaces: ['a'] }] },
      { action: 'deny', from: [{ unauthenticated: true }] },
      false,
    ],
    [
      'a denial of members, and sources that prove nothing',
      { from: [{ unauthenticated: true }] },
      { action: 'deny', from: [{ namespaces: ['a'] }] },
      true,
    ],
  ];
  for (const [what, a, b, found] of cases) {
    it(`${found ? 'refuses' : 'takes'} rules for ${what}`, () => {
      const snapshot = snapshotOf({ rules: [a, b].map((each) => ({ ...each, priority: 1 })) });
      const externals = [{ name: 'root/e', hosts: [], cidrs: ['192.0.2.0/24'], ports: [[443, 443] as const] }];
      assert.equal(findAmbiguousRules(snapshot.rules, { externals }).length, found ? 1 : 0);
    });
  }

  it('is made again for external destinations when ServiceEntries change', () => {
    const { rules } = snapshotOf({
      rules: [{ to: [{ cidrs: ['192.0.2.0/24'] }] }, outside(443)].map((each) => ({ ...each, priority: 1 })),
    });
    const externals = [{ name: 'root/e', hosts: [], cidrs: ['192.0.2.0/24'], ports: [] }];
    assert.deepEqual(findAmbiguousRules(rules, { externals }), []);
    assert.equal(findAmbiguousRules(rules, { externals: [] }).length, 1);
    assert.deepEqual(findAmbiguousRules(rules, { externals }), []);
  });
});

function outside(port: number): Partial<CompiledRule> {
  return { action: 'deny', to: [{ external: true }], ports: [[port, port]] };
}
