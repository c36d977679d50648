import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatSpiffeId } from '../../../../shared/identity.js';
import type { Connection } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import type { AuthorizationSource, CompiledAuthorizationPolicy } from '../../../../shared/policy/snapshot.js';
import { api, clock, connection, db, external, snapshotOf, web } from '../../../support/rules/policy-fixture.js';

type Policy = Partial<CompiledAuthorizationPolicy>;

/** The rule that decides, `Mesh` when the policies leave it to the default. */
function decider(policies: readonly Policy[], to: Partial<Connection> = {}): string {
  const { verdict, rule } = evaluate(snapshotOf({ policies }), connection(to), clock);
  return `${verdict} ${rule.kind === 'Mesh' ? 'Mesh' : rule.name}`;
}

describe('which workloads an AuthorizationPolicy is about', () => {
  const cases: readonly (readonly [what: string, policy: Policy, expected: string])[] = [
    ['its own namespace', { namespace: 'billing' }, 'deny p0'],
    ['no other namespace', { namespace: 'shop' }, 'deny Mesh'],
    ['every namespace from the root', { namespace: 'root' }, 'deny p0'],
    ['workloads with its labels', { selector: { app: 'db' } }, 'deny p0'],
    ['no workload with other labels', { selector: { app: 'api' } }, 'deny Mesh'],
    ['no workload that lacks one of the labels', { selector: { app: 'db', tier: 'x' } }, 'deny Mesh'],
    ['workloads with its labels from the root', { namespace: 'root', selector: { app: 'db' } }, 'deny p0'],
    ['no workload with other labels from the root', { namespace: 'root', selector: { app: 'x' } }, 'deny Mesh'],
  ];
  for (const [what, policy, expected] of cases) it(`are ${what}`, () => assert.equal(decider([policy]), expected));

  it('are never those outside the mesh', () => {
    assert.equal(decider([{ namespace: 'root' }], { destination: external('203.0.113.1') }), 'deny Mesh');
  });
});

describe('the rules of an AuthorizationPolicy', () => {
  const everything = [{ from: [], to: [] }];
  const cases: readonly (readonly [what: string, policies: readonly Policy[], expected: string])[] = [
    ['ALLOW without rules allows nothing', [{ rules: [] }], 'deny p0'],
    ['DENY without rules denies nothing', [{ action: 'DENY', rules: [] }], 'deny Mesh'],
    ['ALLOW with an empty rule allows everything', [{ rules: everything }], 'allow p0'],
    ['DENY with an empty rule denies everything', [{ action: 'DENY', rules: everything }], 'deny p0'],
    ['one ALLOW of several is enough', [{ rules: [] }, { rules: everything }], 'allow p1'],
    ['DENY wins over ALLOW', [{ rules: everything }, { action: 'DENY', rules: everything }], 'deny p1'],
    [
      'a DENY that does not match leaves it to ALLOW',
      [{ action: 'DENY', rules: [] }, { rules: everything }],
      'allow p1',
    ],
    [
      'any rule of a policy is enough',
      [{ rules: [{ from: [{ namespaces: ['x'] }], to: [] }, ...everything] }],
      'allow p0',
    ],
    [
      'from and to must both match',
      [{ rules: [{ from: [{ namespaces: ['billing'] }], to: [{ ports: [1] }] }] }],
      'deny p0',
    ],
    ['any operation is enough', [{ rules: [{ from: [], to: [{ ports: [1] }, { ports: [5432] }] }] }], 'allow p0'],
    ['notPorts takes ports out', [{ rules: [{ from: [], to: [{ notPorts: [5432] }] }] }], 'deny p0'],
    ['notPorts leaves the other ports', [{ rules: [{ from: [], to: [{ notPorts: [22] }] }] }], 'allow p0'],
    [
      'any source is enough',
      [{ rules: [{ from: [{ namespaces: ['x'] }, { namespaces: ['billing'] }], to: [] }] }],
      'allow p0',
    ],
  ];
  for (const [what, policies, expected] of cases) it(what, () => assert.equal(decider(policies), expected));
});

describe('a source of an AuthorizationPolicy', () => {
  const principal = 'mesh.test/ns/billing/sa/api';
  const stranger = external('198.18.0.1');
  const foreign = {
    ...api,
    identity: formatSpiffeId({ trustDomain: 'other.test', namespace: 'billing', serviceAccount: 'api' }),
  };
  const cases: readonly (readonly [AuthorizationSource, matchesApi: boolean, matchesUnauthenticated: boolean])[] = [
    [{ principals: [principal] }, true, false],
    [{ principals: ['mesh.test/ns/billing/sa/db'] }, false, false],
    [{ principals: ['x', principal] }, true, false],
    [{ principals: ['*'] }, true, false],
    [{ principals: ['mesh.test/ns/billing/*'] }, true, false],
    [{ principals: ['mesh.test/ns/bill*'] }, true, false],
    [{ principals: ['mesh.test/ns/shop/*'] }, false, false],
    [{ principals: ['*/sa/api'] }, true, false],
    [{ principals: ['*/sa/db'] }, false, false],
    [{ principals: ['mesh.test/*/api'] }, false, false],
    [{ notPrincipals: [principal] }, false, true],
    [{ notPrincipals: ['*'] }, false, true],
    [{ notPrincipals: ['mesh.test/ns/shop/*'] }, true, true],
    [{ namespaces: ['billing'] }, true, false],
    [{ namespaces: ['bill*'] }, true, false],
    [{ namespaces: ['*ing'] }, true, false],
    [{ namespaces: ['*'] }, true, false],
    [{ namespaces: ['shop'] }, false, false],
    [{ notNamespaces: ['billing'] }, false, true],
    [{ notNamespaces: ['shop'] }, true, true],
    [{ ipBlocks: ['198.18.0.0/24'] }, true, true],
    [{ ipBlocks: ['198.18.0.1'] }, true, true],
    [{ ipBlocks: ['10.0.0.0/8'] }, false, false],
    [{ notIpBlocks: ['198.18.0.0/24'] }, false, false],
    [{ notIpBlocks: ['10.0.0.0/8'] }, true, true],
    [{ principals: ['*'], notPrincipals: [principal] }, false, false],
    [{ namespaces: ['billing'], ipBlocks: ['10.0.0.0/8'] }, false, false],
    [{ namespaces: ['billing'], ipBlocks: ['198.18.0.0/24'], notPrincipals: ['*/sa/db'] }, true, false],
  ];
  for (const [source, matchesApi, matchesUnauthenticated] of cases) {
    it(`${JSON.stringify(source)} ${matchesApi ? 'matches' : 'does not match'} billing/api`, () => {
      assert.equal(decider([{ rules: [{ from: [source], to: [] }] }]), matchesApi ? 'allow p0' : 'deny p0');
    });
    it(`${JSON.stringify(source)} ${matchesUnauthenticated ? 'matches' : 'does not match'} who proved nothing`, () => {
      const expected = matchesUnauthenticated ? 'allow p0' : 'deny p0';
      for (const unauthenticated of [stranger, { ...api, identity: null }]) {
        assert.equal(decider([{ rules: [{ from: [source], to: [] }] }], { source: unauthenticated }), expected);
      }
    });
  }

  it('sees the trust domain of a principal', () => {
    const policies = [{ rules: [{ from: [{ principals: ['mesh.test/*'] }], to: [] }] }];
    assert.equal(decider(policies, { source: foreign }), 'deny p0');
    assert.equal(
      decider([{ rules: [{ from: [{ principals: ['other.test/*'] }], to: [] }] }], { source: foreign }),
      'allow p0',
    );
  });

  it('sees the namespace of whatever trust domain, as Istio does', () => {
    assert.equal(
      decider([{ rules: [{ from: [{ namespaces: ['billing'] }], to: [] }] }], { source: foreign }),
      'allow p0',
    );
  });

  it('looks at the source, and at the labels of the destination', () => {
    const policies = [{ selector: { app: 'db' }, rules: [{ from: [{ namespaces: ['shop'] }], to: [] }] }];
    assert.equal(decider(policies, { source: web, destination: db }), 'allow p0');
    assert.equal(decider(policies, { source: db, destination: web }), 'deny Mesh');
  });
});
