import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { istio, mesh, networkPolicy } from '../../../support/rules/policy-published-fixture.js';

/** Documents that are right in form and match nothing, or have no effect: each a warning that says why. */

function warningsOf(...documents: readonly object[]): string[] {
  const { resources, problems } = parseDocuments(documents.map((each) => JSON.stringify(each)).join('\n---\n'));
  assert.deepEqual(problems, []);
  return validateSet(resources).map((problem) => `${problem.severity} ${formatProblem(problem)}`);
}

const policy = (rule: object) => istio('AuthorizationPolicy', 'p', 'billing', { rules: [rule] });
const source = (fields: object) => policy({ from: [{ source: fields }] });
const when = (fields: object) => policy({ when: [fields] });
const selecting = (...matchExpressions: readonly object[]) =>
  networkPolicy('n', 'billing', { podSelector: { matchExpressions } });

describe('names that no certificate can have', () => {
  const rows: readonly (readonly [document: object, warning: RegExp])[] = [
    [
      source({ principals: ['shop/client'] }),
      /principals\[0\]: "shop\/client" matches nothing: a principal is .* \(did you mean "cluster\.local\/ns\/shop\/sa\/client"\?/,
    ],
    [
      source({ principals: [' cluster.local/ns/shop/sa/client'] }),
      /matches nothing: no name has a space \(write "cluster\.local\/ns\/shop\/sa\/client"/,
    ],
    [source({ principals: ['ns/shop/sa/client'] }), /did you mean "cluster\.local\/ns\/shop\/sa\/client"/],
    [source({ notPrincipals: ['client'] }), /notPrincipals\[0\]: "client" matches nothing: a principal is/],
    [source({ principals: ['mesh.test/ns/Shop/sa/client'] }), /"mesh\.test\/ns\/Shop\/sa\/client" matches nothing/],
    [source({ principals: ['mesh.test/ns/shop/sa/client/x'] }), /matches nothing/],
    [source({ principals: ['mesh.test/sa/*'] }), /"mesh\.test\/sa\/\*" matches nothing/],
    [source({ principals: ['*/client/'] }), /matches nothing/],
    [source({ principals: ['*/serviceaccount/client'] }), /matches nothing/],
    [source({ namespaces: ['shop '] }), /namespaces\[0\]: "shop " matches nothing: no name has a space \(write "shop"/],
    [source({ namespaces: ['Shop'] }), /"Shop" matches nothing: a namespace has lower-case letters/],
    [source({ namespaces: ['shop/*'] }), /"shop\/\*" matches nothing/],
    [source({ notNamespaces: ['*.shop'] }), /"\*\.shop" matches nothing/],
    [source({ trustDomains: ['spiffe://x'] }), /"spiffe:\/\/x" matches nothing: a trust domain has/],
    [source({ principals: ['a*b'] }), /"a\*b" matches nothing: "\*" counts at the beginning or at the end, not both/],
    [when({ key: 'source.namespace', values: ['Shop'] }), /when\[0\]\.values\[0\]: "Shop" matches nothing/],
    [when({ key: 'source.principal', notValues: ['shop/a'] }), /when\[0\]\.notValues\[0\]: "shop\/a" matches nothing/],
  ];
  for (const [document, warning] of rows) {
    it(JSON.stringify((document as { spec: unknown }).spec), () => {
      const warnings = warningsOf(document);
      assert.equal(warnings.length, 1, warnings.join('\n'));
      assert.match(warnings[0] ?? '', new RegExp(`^warning .*${warning.source}`));
    });
  }

  it('names that one can have are taken without a word', () => {
    const principals = [
      '*',
      'cluster.local/*',
      'cluster.local/n*',
      'cluster.local/ns/sh*',
      'a_b.c/ns/x/sa/y.z',
      '*y',
      '*a/y',
    ];
    const more = ['*/ns/shop/sa/client', '*s/shop/sa/client', '*hop/sa/client', 'cluster.local/ns/shop/sa/*', 'cl*'];
    const namespaces = ['*', 'shop', 'shop-*', '*-shop', '0*'];
    const trustDomains = ['*', 'cluster.local', 'td_*', '*.local'];
    assert.deepEqual(warningsOf(source({ principals, notPrincipals: more })), []);
    assert.deepEqual(warningsOf(source({ namespaces, trustDomains })), []);
  });
});

describe('lists and selectors that contradict themselves', () => {
  const rows: readonly (readonly [document: object, warning: RegExp])[] = [
    [
      source({ namespaces: ['shop'], notNamespaces: ['sh*'] }),
      /source\.notNamespaces: matches nothing: notNamespaces takes away all that namespaces names/,
    ],
    [source({ principals: ['*'], notPrincipals: ['*'] }), /notPrincipals: matches nothing/],
    [source({ serviceAccounts: ['a/b'], notServiceAccounts: ['a/b'] }), /notServiceAccounts: matches nothing/],
    [source({ ipBlocks: ['10.1.0.0/16', '10.2.3.4'], notIpBlocks: ['10.0.0.0/8'] }), /notIpBlocks: matches nothing/],
    [
      policy({ to: [{ operation: { ports: ['80', 81], notPorts: [80, '81'] } }] }),
      /operation\.notPorts: matches nothing: notPorts takes away all that ports names/,
    ],
    [when({ key: 'source.ip', values: ['10.0.0.1'], notValues: ['10.0.0.0/8'] }), /notValues: matches nothing/],
    [
      selecting({ key: 'app', operator: 'In', values: ['a'] }, { key: 'app', operator: 'NotIn', values: ['a', 'b'] }),
      /spec\.podSelector: selects nothing: no value of the label app meets all its conditions/,
    ],
    [
      selecting({ key: 'app', operator: 'Exists' }, { key: 'app', operator: 'DoesNotExist' }),
      /the label app cannot be there and not be there/,
    ],
    [selecting({ key: 'app', operator: 'In', values: ['a b'] }), /the label app cannot have the value "a b"/],
    [
      networkPolicy('n', 'billing', {
        egress: [
          {
            to: [
              {
                namespaceSelector: {
                  matchLabels: { team: 'a' },
                  matchExpressions: [{ key: 'team', operator: 'In', values: ['b'] }],
                },
              },
            ],
          },
        ],
      }),
      /spec\.egress\[0\]\.to\[0\]\.namespaceSelector: selects nothing/,
    ],
  ];
  for (const [document, warning] of rows) {
    it(warning.source, () => {
      const warnings = warningsOf(document);
      assert.equal(warnings.length, 1, warnings.join('\n'));
      assert.match(warnings[0] ?? '', warning);
    });
  }

  it('lists that leave something are taken without a word', () => {
    assert.deepEqual(warningsOf(source({ namespaces: ['*'], notNamespaces: ['shop'] })), []);
    assert.deepEqual(warningsOf(source({ namespaces: ['a', 'b'], notNamespaces: ['a'] })), []);
    assert.deepEqual(warningsOf(source({ ipBlocks: ['10.0.0.0/8'], notIpBlocks: ['10.1.0.0/16'] })), []);
    const both = [
      { key: 'app', operator: 'In', values: ['a', 'b'] },
      { key: 'app', operator: 'NotIn', values: ['a'] },
    ];
    assert.deepEqual(warningsOf(selecting(...both, { key: 'x', operator: 'DoesNotExist' })), []);
  });
});

describe('documents and annotations without effect', () => {
  const selective = { selector: { matchLabels: { app: 'db' } }, mtls: { mode: 'STRICT' } };

  it('a PeerAuthentication that selects workloads in the root namespace', () => {
    const [warning = '', ...others] = warningsOf(istio('PeerAuthentication', 'p', 'istio-system', selective));
    assert.match(
      warning,
      /^warning .*spec\.selector: is ignored: in the root namespace istio-system a PeerAuthentication/,
    );
    assert.deepEqual(others, []);
    assert.deepEqual(warningsOf(istio('PeerAuthentication', 'p', 'billing', selective)), []);
    assert.deepEqual(warningsOf(istio('PeerAuthentication', 'p', 'istio-system', { mtls: { mode: 'STRICT' } })), []);
    const elsewhere = mesh({ rootNamespace: 'billing' });
    assert.match(warningsOf(elsewhere, istio('PeerAuthentication', 'p', 'billing', selective)).join(), /is ignored/);
  });

  it('a dry run of a kind that has none', () => {
    const annotations = { 'istio.io/dry-run': 'true' };
    const tried = (document: object) => ({ ...document, metadata: { name: 'p', namespace: 'billing', annotations } });
    assert.match(
      warningsOf(tried(networkPolicy('n', 'billing', {}))).join(),
      /^warning NetworkPolicy\/billing\/p: metadata\.annotations\["istio\.io\/dry-run"\]: counts for AuthorizationPolicies only/,
    );
    assert.deepEqual(warningsOf(tried(istio('AuthorizationPolicy', 'p', 'billing', {}))), []);
  });
});
