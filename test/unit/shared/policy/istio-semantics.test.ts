import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatSpiffeId } from '../../../../shared/identity.js';
import type { Connection, Party } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { mtlsOf } from '../../../../shared/policy/required-mtls.js';
import { formatRuleRef } from '../../../../shared/policy/connection.js';
import { api, clock, connection, db, external, meshed, web } from '../../../support/rules/policy-fixture.js';
import { compileDocuments, istio, mesh } from '../../../support/rules/policy-published-fixture.js';

/**
 * What Istio publishes about AuthorizationPolicy and PeerAuthentication, a row for each statement (in our words; source:
 * Istio's reference, Security, "Authorization Policy", "Authorization Policy Conditions" and "PeerAuthentication", and
 * the concept page "Authorization"). The verdicts are those of connections to billing/db, port 5432, which takes
 * everything unless a policy says otherwise.
 */

const root = 'istio-system';
const policy = (spec: object, namespace = 'billing', name = 'p') => istio('AuthorizationPolicy', name, namespace, spec);
const deny = (rules: readonly object[], namespace?: string) => policy({ action: 'DENY', rules }, namespace, 'deny');
const allow = (rules: readonly object[] | undefined, namespace?: string) =>
  policy({ action: 'ALLOW', ...(rules === undefined ? {} : { rules }) }, namespace, 'allow');
const source = (fields: object) => ({ from: [{ source: fields }] });
const operation = (fields: object) => ({ to: [{ operation: fields }] });
const when = (key: string, fields: object) => ({ when: [{ key, ...fields }] });

/** Dials from billing/api, from shop/web, and in plaintext from an unknown address: allowed or denied. */
function verdicts(documents: readonly object[], to: Partial<Connection> = {}): string {
  const snapshot = compileDocuments(...documents);
  return [api, web, external('203.0.113.9')]
    .map((party) => evaluate(snapshot, connection({ source: party, ...to }), clock).verdict[0])
    .join('');
}

type Row = readonly [statement: string, documents: readonly object[], verdicts: string, to?: Partial<Connection>];

const everything = [{}];
const other: Party = meshed('shop/db', '198.18.1.2');
const foreign: Party = {
  ...web,
  workload: null,
  identity: formatSpiffeId({ trustDomain: 'other.test', namespace: 'billing', serviceAccount: 'api' }),
};

const rows: Readonly<Record<string, readonly Row[]>> = {
  'how policies come to a verdict': [
    ['without a policy for the workload everything is allowed', [], 'aaa'],
    ['a DENY policy that matches denies', [deny(everything)], 'ddd'],
    [
      'where there is no ALLOW policy, what no DENY policy matches is allowed',
      [deny([source({ namespaces: ['shop'] })])],
      'ada',
    ],
    ['where an ALLOW policy matches, it is allowed', [allow([source({ namespaces: ['shop'] })])], 'dad'],
    ['where ALLOW policies exist and none matches, it is denied', [allow([operation({ ports: ['80'] })])], 'ddd'],
    ['DENY is looked at before ALLOW', [allow(everything), deny([source({ namespaces: ['billing'] })])], 'daa'],
    ['the action is ALLOW when none is written', [policy({ rules: [source({ namespaces: ['shop'] })] })], 'dad'],
    [
      'several ALLOW policies allow what any of them does',
      [
        policy({ rules: [source({ namespaces: ['shop'] })] }, 'billing', 'a'),
        policy({ rules: [source({ namespaces: ['billing'] })] }, 'billing', 'b'),
      ],
      'aad',
    ],
  ],
  'policies without rules, and rules without fields': [
    ['an ALLOW policy with an empty spec allows nothing', [policy({})], 'ddd'],
    ['an ALLOW policy with no rules allows nothing', [allow([])], 'ddd'],
    ['a DENY policy with no rules denies nothing', [deny([])], 'aaa'],
    ['an empty rule always matches: ALLOW', [allow(everything)], 'aaa'],
    ['an empty rule always matches: DENY', [deny(everything)], 'ddd'],
    ['a rule without from is about every source', [allow([operation({ ports: ['5432'] })])], 'aaa'],
    ['a rule without to is about every operation', [allow([source({ namespaces: ['shop'] })])], 'dad', { port: 1 }],
  ],
  'which workloads a policy is about': [
    ['without a selector, all of its namespace', [deny(everything)], 'ddd'],
    ['never one of another namespace', [deny(everything)], 'aaa', { destination: other }],
    ['in the root namespace, all of every namespace', [deny(everything, root)], 'ddd', { destination: other }],
    [
      'with a selector, those that have its labels',
      [policy({ selector: { matchLabels: { app: 'db' } }, action: 'DENY', rules: everything })],
      'ddd',
    ],
    [
      'with a selector, not those that lack one',
      [policy({ selector: { matchLabels: { app: 'db', x: 'y' } }, action: 'DENY', rules: everything })],
      'aaa',
    ],
    [
      'in the root namespace with a selector, those of every namespace',
      [policy({ selector: { matchLabels: { app: 'db' } }, action: 'DENY', rules: everything }, root)],
      'ddd',
      { destination: other },
    ],
  ],
  'how the parts of a rule combine': [
    [
      'the rules of a policy are alternatives',
      [allow([source({ namespaces: ['shop'] }), source({ namespaces: ['billing'] })])],
      'aad',
    ],
    [
      'the entries of from are alternatives',
      [allow([{ from: [{ source: { namespaces: ['shop'] } }, { source: { namespaces: ['billing'] } }] }])],
      'aad',
    ],
    [
      'from and to must both match',
      [allow([{ ...source({ namespaces: ['shop'] }), ...operation({ ports: ['80'] }) }])],
      'ddd',
    ],
    [
      'the fields of one source must all match',
      [allow([source({ namespaces: ['shop'], ipBlocks: ['198.18.0.0/24'] })])],
      'ddd',
    ],
    ['the values of one field are alternatives', [allow([source({ namespaces: ['shop', 'billing'] })])], 'aad'],
    [
      'a not-field takes out of what its field matches',
      [allow([source({ namespaces: ['*'], notNamespaces: ['shop'] })])],
      'add',
    ],
  ],
  'who the source is': [
    [
      'principals are trust domain, namespace and service account',
      [allow([source({ principals: ['mesh.test/ns/shop/sa/web'] })])],
      'dad',
    ],
    [
      'cluster.local stands for the own trust domain',
      [allow([source({ principals: ['cluster.local/ns/shop/sa/web'] })])],
      'dad',
    ],
    ['* is any principal that is there: plaintext has none', [allow([source({ principals: ['*'] })])], 'aad'],
    ['a star at the end matches beginnings', [allow([source({ principals: ['mesh.test/ns/shop/*'] })])], 'dad'],
    ['a star at the beginning matches ends', [allow([source({ principals: ['*/sa/api'] })])], 'add'],
    ['notPrincipals matches also who has no principal', [deny([source({ notPrincipals: ['*'] })])], 'aad'],
    ['notNamespaces matches also who has no principal', [allow([source({ notNamespaces: ['shop'] })])], 'ada'],
    [
      'a principal of another trust domain is another principal',
      [allow([source({ principals: ['mesh.test/ns/billing/sa/api'] })])],
      'ddd',
      { source: foreign },
    ],
    [
      'namespaces come from the principal, of whatever trust domain',
      [allow([source({ namespaces: ['billing'] })])],
      'aaa',
      { source: foreign },
    ],
    ['serviceAccounts are namespace and name', [allow([source({ serviceAccounts: ['shop/web'] })])], 'dad'],
    ['serviceAccounts without a namespace are of the own one', [allow([source({ serviceAccounts: ['api'] })])], 'add'],
    ['serviceAccounts match whole names only', [allow([source({ serviceAccounts: ['shop/we', 'shop/webs'] })])], 'ddd'],
    [
      'notServiceAccounts matches also who has no principal',
      [allow([source({ notServiceAccounts: ['shop/web'] })])],
      'ada',
    ],
    [
      'serviceAccounts are of whatever trust domain',
      [allow([source({ serviceAccounts: ['billing/api'] })])],
      'aaa',
      { source: foreign },
    ],
    ['trustDomains are those of the identity', [allow([source({ trustDomains: ['mesh.test'] })])], 'aad'],
    ['trustDomains: cluster.local is that of the mesh', [allow([source({ trustDomains: ['cluster.local'] })])], 'aad'],
    [
      'trustDomains tell apart what has the same name elsewhere',
      [allow([source({ namespaces: ['billing'], trustDomains: ['mesh.test'] })])],
      'ddd',
      { source: foreign },
    ],
    ['trustDomains take prefixes', [allow([source({ trustDomains: ['other.*'] })])], 'aaa', { source: foreign }],
    ['notTrustDomains matches also who has no principal', [deny([source({ notTrustDomains: ['mesh.test'] })])], 'aad'],
    ['ipBlocks are prefixes', [allow([source({ ipBlocks: ['203.0.113.0/24'] })])], 'dda'],
    ['ipBlocks are single addresses', [allow([source({ ipBlocks: ['198.18.1.1'] })])], 'dad'],
    ['notIpBlocks is everybody else', [allow([source({ notIpBlocks: ['198.18.0.0/15'] })])], 'dda'],
  ],
  'what is done': [
    ['ports are those of the workload', [allow([operation({ ports: ['80', '5432'] })])], 'aaa'],
    ['notPorts is every other port', [deny([operation({ notPorts: ['5432'] })])], 'aaa'],
    ['notPorts is every other port: another', [deny([operation({ notPorts: ['5432'] })])], 'ddd', { port: 80 }],
  ],
  conditions: [
    [
      'when must hold besides from and to',
      [allow([{ ...source({ namespaces: ['*'] }), ...when('source.namespace', { values: ['shop'] }) }])],
      'dad',
    ],
    [
      'all conditions must hold',
      [
        allow([
          {
            when: [
              { key: 'source.namespace', values: ['shop'] },
              { key: 'destination.port', values: ['80'] },
            ],
          },
        ]),
      ],
      'ddd',
    ],
    [
      'the values of a condition are alternatives',
      [allow([when('source.ip', { values: ['203.0.113.0/24', '198.18.1.1'] })])],
      'daa',
    ],
    ['notValues must not hold', [allow([when('source.ip', { notValues: ['203.0.113.0/24'] })])], 'aad'],
    [
      'values and notValues must both hold',
      [allow([when('source.ip', { values: ['198.18.0.0/15'], notValues: ['198.18.1.1'] })])],
      'add',
    ],
    [
      'source.principal is the principal',
      [allow([when('source.principal', { values: ['*/ns/shop/sa/web', 'cluster.local/ns/shop/sa/web'] })])],
      'dad',
    ],
    [
      'source.serviceAccount is namespace and name',
      [allow([when('source.serviceAccount', { values: ['shop/web'] })])],
      'dad',
    ],
    [
      'source.serviceAccount without a namespace is of the own one',
      [allow([when('source.serviceAccount', { values: ['api'] })])],
      'add',
    ],
    [
      'source.trustDomain is that of the identity',
      [allow([when('source.trustDomain', { values: ['mesh.*'] })])],
      'aad',
    ],
    [
      'source.trustDomain may be one that must not be',
      [allow([when('source.trustDomain', { notValues: ['cluster.local'] })])],
      'dda',
    ],
    [
      'destination.ip is the address of the workload',
      [allow([when('destination.ip', { values: ['198.18.0.2'] })])],
      'aaa',
    ],
    [
      'destination.port is the port of the workload',
      [allow([when('destination.port', { notValues: ['5432'] })])],
      'ddd',
    ],
  ],
};

for (const [what, statements] of Object.entries(rows)) {
  describe(`AuthorizationPolicy: ${what}`, () => {
    for (const [statement, documents, expected, to] of statements) {
      it(statement, () => assert.equal(verdicts(documents, to), expected));
    }
  });
}

const authentication = (name: string, namespace: string, spec: object) =>
  istio('PeerAuthentication', name, namespace, spec);
const mode = (text: string) => ({ mtls: { mode: text } });
const selector = { selector: { matchLabels: { app: 'db' } } };

const mtlsRows: readonly (readonly [statement: string, documents: readonly object[], modes: string])[] = [
  ['without a policy it is permissive', [], 'PPP'],
  ['in the root namespace it holds for the mesh', [authentication('m', root, mode('STRICT'))], 'SSS'],
  ['in a namespace it holds for that', [authentication('n', 'billing', mode('STRICT'))], 'SSP'],
  [
    'a namespace comes before the mesh',
    [authentication('m', root, mode('STRICT')), authentication('n', 'billing', mode('PERMISSIVE'))],
    'PPS',
  ],
  [
    'a workload comes before its namespace',
    [
      authentication('n', 'billing', mode('PERMISSIVE')),
      authentication('w', 'billing', { ...selector, ...mode('STRICT') }),
    ],
    'SSP',
  ],
  [
    'a selector that does not match changes nothing',
    [authentication('w', 'shop', { selector: { matchLabels: { app: 'x' } }, ...mode('STRICT') })],
    'PPP',
  ],
  [
    'a selector reaches only its own namespace',
    [authentication('w', 'shop', { ...selector, ...mode('STRICT') })],
    'PPS',
  ],
  [
    'in the root namespace with a selector it is ignored',
    [authentication('w', root, { ...selector, ...mode('STRICT') })],
    'PPP',
  ],
  [
    'a port comes before its workload',
    [
      authentication('w', 'billing', {
        ...selector,
        ...mode('STRICT'),
        portLevelMtls: { '80': { mode: 'PERMISSIVE' } },
      }),
    ],
    'SPP',
  ],
  [
    'a port may be stricter than its workload',
    [
      authentication('w', 'billing', {
        ...selector,
        ...mode('PERMISSIVE'),
        portLevelMtls: { '5432': { mode: 'STRICT' } },
      }),
    ],
    'SPP',
  ],
  [
    'ports that are not listed are as the workload, and UNSET is as the next wider scope',
    [
      authentication('n', 'billing', mode('STRICT')),
      authentication('w', 'billing', {
        ...selector,
        ...mode('UNSET'),
        portLevelMtls: { '80': { mode: 'PERMISSIVE' } },
      }),
    ],
    'SPP',
  ],
  [
    'a port that is UNSET is as the workload',
    [authentication('w', 'billing', { ...selector, ...mode('STRICT'), portLevelMtls: { '80': { mode: 'UNSET' } } })],
    'SSP',
  ],
  [
    'no mode at all is as the next wider scope',
    [authentication('m', root, mode('STRICT')), authentication('n', 'billing', {})],
    'SSS',
  ],
  [
    'the Mesh decides where no policy does',
    [mesh({ mtls: 'STRICT' }), authentication('n', 'billing', mode('PERMISSIVE'))],
    'PPS',
  ],
];

describe('PeerAuthentication', () => {
  for (const [statement, documents, expected] of mtlsRows) {
    it(statement, () => {
      const snapshot = compileDocuments(...documents);
      const [billing, shop] = [db.workload, other.workload];
      assert.ok(billing && shop);
      const modes = [mtlsOf(snapshot, billing, 5432), mtlsOf(snapshot, billing, 80), mtlsOf(snapshot, shop, 80)];
      assert.equal(modes.map((found) => found.mode[0]).join(''), expected);
    });
  }

  it('in the root namespace with a selector it is ignored there too', () => {
    const snapshot = compileDocuments(authentication('w', root, { ...selector, ...mode('STRICT') }));
    const { workload } = meshed(`${root}/db`, '198.18.2.2');
    assert.ok(workload);
    assert.equal(mtlsOf(snapshot, workload, 80).mode, 'PERMISSIVE');
  });

  it('names the document that decides', () => {
    const snapshot = compileDocuments(authentication('w', 'billing', { ...selector, ...mode('STRICT') }));
    const [billing, shop] = [db.workload, other.workload];
    assert.ok(billing && shop);
    assert.equal(formatRuleRef(mtlsOf(snapshot, billing, 80).rule), 'PeerAuthentication/billing/w');
    assert.equal(formatRuleRef(mtlsOf(snapshot, shop, 80).rule), 'Mesh/default');
  });
});
