import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatRuleRef, type Connection, type Party } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { api, clock, connection, db, external, meshed, web } from '../../../support/rules/policy-fixture.js';
import {
  compileDocuments,
  istio,
  mesh,
  namespaceOf,
  networkPolicy,
} from '../../../support/rules/policy-published-fixture.js';

/**
 * What Kubernetes publishes about NetworkPolicy, a row for each statement (in our words; source: Kubernetes, Concepts,
 * "Network Policies", and the API reference of networking.k8s.io/v1 NetworkPolicy). The sources are billing/api,
 * billing/db, shop/web and an address outside; the destination is billing/db unless written; port 5432.
 */

const outside = external('203.0.113.9');
const shopDb = meshed('shop/db', '198.18.1.2');

function verdicts(documents: readonly object[], to: Partial<Connection> = {}): string {
  const snapshot = compileDocuments(namespaceOf('shop', { team: 'sales' }), ...documents);
  return [api, db, web, outside]
    .map((source) => evaluate(snapshot, connection({ source, ...to }), clock).verdict[0])
    .join('');
}

type Row = readonly [statement: string, documents: readonly object[], verdicts: string, to?: Partial<Connection>];

const policy = (spec: object, name = 'p', namespace = 'billing') =>
  networkPolicy(name, namespace, { podSelector: {}, ...spec });
const from = (...peers: object[]) => policy({ ingress: [{ from: peers }] });
const pods = (app: string) => ({ podSelector: { matchLabels: { app } } });
const expression = (key: string, operator: string, ...values: string[]) => ({
  podSelector: { matchExpressions: [{ key, operator, ...(values.length === 0 ? {} : { values }) }] },
});
const team = (value: string) => ({ namespaceSelector: { matchLabels: { team: value } } });
const block = (cidr: string, ...except: string[]) => ({
  ipBlock: { cidr, ...(except.length === 0 ? {} : { except }) },
});
const ports = (...list: object[]) => policy({ ingress: [{ ports: list }] });
const egress = (...rules: object[]) => policy({ policyTypes: ['Egress'], egress: rules });

const rows: Readonly<Record<string, readonly Row[]>> = {
  'isolation for ingress': [
    ['a pod that no policy selects takes everything', [], 'aaaa'],
    ['a pod that a policy selects takes only what is allowed', [policy({})], 'dddd'],
    ['a policy selects pods of its own namespace only', [policy({}, 'p', 'shop')], 'aaaa'],
    ['an empty podSelector selects every pod of the namespace', [policy({ ingress: [] })], 'dddd'],
    ['a podSelector selects by labels', [policy({ ...pods('db') })], 'dddd'],
    ['a pod without the labels stays open', [policy({ ...pods('other') })], 'aaaa'],
    [
      'policies add up: what one allows is allowed',
      [policy({}, 'none'), policy({ ingress: [{ from: [pods('api')] }] }, 'api')],
      'addd',
    ],
    [
      'a pod cannot block access to itself',
      [policy({ policyTypes: ['Ingress', 'Egress'] })],
      'aaaa',
      { source: db, isOwn: true },
    ],
    ['ingress isolation says nothing of egress', [policy({}, 'p', 'shop')], 'aaaa', { destination: db }],
  ],
  'isolation for egress': [
    ['a policy about egress isolates its pods as sources', [egress()], 'ddaa', { destination: shopDb }],
    [
      'and allows what its rules list',
      [egress({ to: [{ namespaceSelector: {}, ...pods('db') }] })],
      'aaaa',
      { destination: shopDb },
    ],
    ['with egress rules and no policyTypes a policy is about both', [policy({ egress: [{}] })], 'dddd'],
    [
      'with egress rules and no policyTypes its pods are isolated for egress',
      [policy({ egress: [{ to: [pods('x')] }] })],
      'ddaa',
      { destination: shopDb },
    ],
    [
      'an empty list of egress rules and no policyTypes is about ingress only',
      [policy({ egress: [] })],
      'aaaa',
      { destination: shopDb },
    ],
    ['policyTypes Egress leaves ingress open', [egress({})], 'aaaa'],
    [
      'policyTypes Ingress leaves egress open, whatever the rules say',
      [policy({ policyTypes: ['Ingress'], egress: [], ingress: [{}] })],
      'aaaa',
      { destination: shopDb },
    ],
    [
      'policyTypes with both and no rules closes both',
      [policy({ policyTypes: ['Ingress', 'Egress'] })],
      'ddaa',
      { destination: shopDb },
    ],
    ['both ends must allow a connection: the source does not', [egress(), policy({ ingress: [{}] }, 'q')], 'ddaa'],
    ['both ends must allow a connection: the destination does not', [egress({}), policy({}, 'q')], 'dddd'],
    [
      'both ends must allow a connection: both do',
      [egress({ to: [pods('db')] }), policy({ ingress: [{ from: [pods('api')] }] }, 'q')],
      'addd',
    ],
  ],
  rules: [
    ['an empty rule allows everything', [policy({ ingress: [{}] })], 'aaaa'],
    ['an empty list of peers is everybody', [policy({ ingress: [{ from: [] }] })], 'aaaa'],
    ['rules are alternatives', [policy({ ingress: [{ from: [pods('api')] }, { from: [pods('db')] }] })], 'aadd'],
    ['peers are alternatives', [from(pods('api'), block('203.0.113.0/24'))], 'adda'],
    [
      'peers and ports must both match',
      [policy({ ingress: [{ from: [pods('api')], ports: [{ port: 80 }] }] })],
      'dddd',
    ],
  ],
  peers: [
    ['a podSelector alone is about the own namespace', [from(pods('web'))], 'dddd'],
    ['an empty podSelector alone is every pod of the own namespace', [from({ podSelector: {} })], 'aadd'],
    ['a namespaceSelector alone is every pod of those namespaces', [from(team('sales'))], 'ddad'],
    ['an empty namespaceSelector is every pod of every namespace', [from({ namespaceSelector: {} })], 'aaad'],
    ['both in one peer must match', [from({ ...team('sales'), ...pods('web') })], 'ddad'],
    ['both in one peer must match: one does not', [from({ ...team('sales'), ...pods('api') })], 'dddd'],
    ['in two peers they are alternatives', [from(team('sales'), pods('api'))], 'adad'],
    [
      'a namespace has its name as a label',
      [from({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } })],
      'ddad',
    ],
    ['an ipBlock is about addresses', [from(block('203.0.113.0/24'))], 'ddda'],
    ['an ipBlock without its exceptions', [from(block('203.0.113.0/24', '203.0.113.8/29'))], 'dddd'],
    ['an ipBlock holds pods too that have such an address', [from(block('0.0.0.0/0'))], 'aaaa'],
  ],
  labels: [
    ['In asks for one of the values', [from(expression('app', 'In', 'api', 'web'))], 'addd'],
    ['NotIn asks for another value', [from(expression('app', 'NotIn', 'api'))], 'dadd'],
    ['NotIn holds for a label that is not there', [from(expression('x', 'NotIn', 'api'))], 'aadd'],
    ['Exists asks for the label', [from(expression('app', 'Exists'))], 'aadd'],
    ['Exists asks for the label: it is not there', [from(expression('x', 'Exists'))], 'dddd'],
    ['DoesNotExist asks for its absence', [from(expression('x', 'DoesNotExist'))], 'aadd'],
    [
      'all requirements must hold',
      [from({ podSelector: { matchLabels: { app: 'api' }, matchExpressions: [{ key: 'x', operator: 'Exists' }] } })],
      'dddd',
    ],
    [
      'expressions select namespaces too',
      [from({ namespaceSelector: { matchExpressions: [{ key: 'team', operator: 'DoesNotExist' }] } })],
      'aadd',
    ],
  ],
  ports: [
    ['an empty list is every port', [ports()], 'aaaa'],
    ['a port is one port', [ports({ port: 5432 })], 'aaaa'],
    ['a port is one port: another', [ports({ port: 5433 })], 'dddd'],
    ['ports are alternatives', [ports({ port: 1 }, { port: 5432 })], 'aaaa'],
    ['endPort makes it a range, both ends included', [ports({ port: 5000, endPort: 5432 })], 'aaaa'],
    ['endPort makes it a range: outside', [ports({ port: 5000, endPort: 5431 })], 'dddd'],
    ['without port it is every port of the protocol', [ports({ protocol: 'TCP' })], 'aaaa'],
    ['the protocol is TCP when none is written; others allow no TCP', [ports({ protocol: 'UDP', port: 5432 })], 'dddd'],
    ['a rule for UDP and TCP allows its TCP part', [ports({ protocol: 'UDP', port: 5432 }, { port: 80 })], 'dddd'],
    [
      'the port is the one of the destination for egress',
      [egress({ ports: [{ port: 5432 }] })],
      'aaaa',
      { destination: shopDb },
    ],
    [
      'the port is the one of the destination for egress: another',
      [egress({ ports: [{ port: 1 }] })],
      'ddaa',
      { destination: shopDb },
    ],
  ],
};

for (const [what, statements] of Object.entries(rows)) {
  describe(`NetworkPolicy: ${what}`, () => {
    for (const [statement, documents, expected, to] of statements) {
      it(statement, () => assert.equal(verdicts(documents, to), expected));
    }
  });
}

describe('NetworkPolicies among the tiers', () => {
  const closed = mesh({ defaultAction: 'deny' });
  const rule = (tier: string, action: string) => ({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: tier },
    spec: { tier, action },
  });
  const authorization = (action: string) => istio('AuthorizationPolicy', 'a', 'billing', { action, rules: [{}] });
  const open = policy({ ingress: [{}] });
  const shut = policy({});

  function by(documents: readonly object[], to: Partial<Connection> = {}): string {
    const { verdict, reason, rule: ref } = evaluate(compileDocuments(...documents), connection(to), clock);
    return `${verdict} ${reason} ${formatRuleRef(ref)}`;
  }

  const cases: readonly (readonly [
    what: string,
    documents: readonly object[],
    expected: string,
    to?: Partial<Connection>,
  ])[] = [
    ['come after the team tier', [rule('team', 'allow'), shut], 'allow OK SegmentationRule/team'],
    ['come before the baseline tier: allowed', [rule('baseline', 'deny'), open], 'allow OK NetworkPolicy/billing/p'],
    [
      'come before the baseline tier: denied',
      [rule('baseline', 'allow'), shut],
      'deny POLICY_DEFAULT_DENY NetworkPolicy/billing/p',
    ],
    [
      'leave to the next tier what they do not isolate',
      [closed, policy({}, 'p', 'shop')],
      'deny POLICY_DEFAULT_DENY Mesh/default',
    ],
    ['allow in a mesh that denies by default', [closed, open], 'allow OK NetworkPolicy/billing/p'],
    [
      'do not open the side of a destination that none of them selects',
      [closed, egress({})],
      'deny POLICY_DEFAULT_DENY Mesh/default',
      { destination: shopDb },
    ],
    [
      'open what has no side of its own',
      [closed, egress({})],
      'allow OK NetworkPolicy/billing/p',
      { destination: outside },
    ],
    [
      'deny besides an AuthorizationPolicy that allows',
      [authorization('ALLOW'), shut],
      'deny POLICY_DEFAULT_DENY NetworkPolicy/billing/p',
    ],
    [
      'allow nothing that an AuthorizationPolicy denies',
      [authorization('DENY'), open],
      'deny POLICY_DENY AuthorizationPolicy/billing/a',
    ],
    [
      'leave the word to an AuthorizationPolicy that allows too',
      [authorization('ALLOW'), open],
      'allow OK AuthorizationPolicy/billing/a',
    ],
  ];
  for (const [what, documents, expected, to] of cases) it(what, () => assert.equal(by(documents, to), expected));

  it('select by proof: a plaintext client is no pod, and its address isolates it', () => {
    const plaintext: Party = { ...api, identity: null };
    assert.match(by([from({ podSelector: {} })], { source: plaintext }), /^deny /);
    assert.match(by([from(block('198.18.0.0/15'))], { source: plaintext }), /^allow /);
    assert.match(by([egress()], { source: plaintext, destination: shopDb }), /^deny .*NetworkPolicy/);
  });

  it('explain themselves in the trace', () => {
    const explain = (documents: readonly object[], to: Partial<Connection> = {}) =>
      evaluate(compileDocuments(...documents), connection(to), clock, { trace: true })
        .trace.filter(({ stage }) => stage === 'networkPolicy')
        .map(({ outcome, detail }) => `${outcome}: ${detail}`);
    assert.deepEqual(explain([shut]), [
      'deny: it isolates destination billing/db for ingress, which does not allow source billing/api on port 5432',
    ]);
    assert.deepEqual(explain([open]), [
      'allow: an ingress rule of destination billing/db allows source billing/api and port 5432',
    ]);
    assert.deepEqual(explain([egress({})], { destination: shopDb }), [
      'no match: egress of source billing/api is allowed, and no NetworkPolicy isolates destination shop/db',
    ]);
  });
});
