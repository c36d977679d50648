import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { istio, mesh, networkPolicy } from '../../../support/rules/policy-published-fixture.js';

/** Documents that are right in form and match nothing, or have no effect: each a warning that says why. */

const warningsOf = (...documents: readonly object[]): string[] => warningsIn(undefined, documents);

/** `trustDomain`: of the mesh. */
function warningsIn(trustDomain: string | undefined, documents: readonly object[]): string[] {
  const { resources, problems } = parseDocuments(
    [...documents, someWorkload].map((each) => JSON.stringify(each)).join('\n---\n'),
  );
  assert.deepEqual(problems, []);
  const options = trustDomain === undefined ? {} : { trustDomain };
  return validateSet(resources, new Map(), options).map((problem) => `${problem.severity} ${formatProblem(problem)}`);
}

/** The only account: a/b. */
const someWorkload = {
  apiVersion: 'culvert.dev/v1',
  kind: 'Workload',
  metadata: { name: 'w', namespace: 'a' },
  spec: { serviceAccount: 'b', addresses: ['198.18.0.9'] },
};

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

describe('accounts that no workload has', () => {
  const rows: readonly (readonly [document: object, warning: RegExp])[] = [
    [
      source({ serviceAccounts: ['a/c'] }),
      /serviceAccounts\[0\]: no workload runs as service account a\/c \(did you mean "a\/b"\?/,
    ],
    // In the namespace of the policy, as in Istio: the root namespace has no workloads.
    [source({ serviceAccounts: ['b'] }), /serviceAccounts\[0\]: no workload runs as service account billing\/b/],
    [source({ notServiceAccounts: ['a/c'] }), /notServiceAccounts\[0\]: no workload runs as service account a\/c/],
    [
      when({ key: 'source.serviceAccount', values: ['a/b', 'x/b'] }),
      /when\[0\]\.values\[1\]: no workload runs as service account x\/b/,
    ],
    [
      when({ key: 'source.serviceAccount', notValues: ['x'] }),
      /notValues\[0\]: no workload runs as service account billing\/x/,
    ],
    [source({ principals: ['cluster.local/ns/a/sa/c'] }), /principals\[0\]: no workload runs as service account a\/c/],
    [source({ principals: ['mesh.test/ns/a/sa/c'] }), /principals\[0\]: no workload runs as service account a\/c/],
    [
      when({ key: 'source.principal', notValues: ['mesh.test/ns/x/sa/b'] }),
      /notValues\[0\]: no workload runs as service account x\/b/,
    ],
  ];
  for (const [document, warning] of rows) {
    it(JSON.stringify((document as { spec: unknown }).spec), () => {
      const warnings = warningsIn('mesh.test', [document]);
      assert.equal(warnings.length, 1, warnings.join('\n'));
      assert.match(warnings[0] ?? '', new RegExp(`^warning .*${warning.source}`));
    });
  }

  it('those that one has are taken without a word', () => {
    const documents = [
      source({ serviceAccounts: ['a/b'] }),
      source({ principals: ['mesh.test/ns/a/sa/b', 'cluster.local/ns/a/sa/b', 'cluster.local/ns/a/sa/c*'] }),
      when({ key: 'source.serviceAccount', values: ['a/b'] }),
    ];
    for (const document of documents) assert.deepEqual(warningsIn('mesh.test', [document]), []);
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

describe('names of another mesh', () => {
  const rows: readonly (readonly [document: object, warning: RegExp | null])[] = [
    [
      source({ principals: ['other.domain/ns/billing/sa/api'] }),
      /principals\[0\]: .* matches nothing: certificates of this mesh have the trust domain mesh\.test \(write "cluster\.local" or "mesh\.test"/,
    ],
    [source({ trustDomains: ['cluster.locl'] }), /trustDomains\[0\]: "cluster\.locl" matches nothing/],
    [source({ notTrustDomains: ['cluster.locl'] }), /notTrustDomains\[0\]/],
    [source({ principals: ['other.domain/*'] }), /principals\[0\]/],
    [source({ trustDomains: ['other.*'] }), /trustDomains\[0\]/],
    [when({ key: 'source.trustDomain', values: ['cluster.locl'] }), /when\[0\]\.values\[0\]/],
    [when({ key: 'source.principal', notValues: ['other/ns/a/sa/b'] }), /when\[0\]\.notValues\[0\]/],
    [source({ principals: ['cluster.local/ns/a/sa/b', 'mesh.test/ns/a/sa/b', '*/ns/a/sa/b', 'mesh*', '*'] }), null],
    [source({ trustDomains: ['cluster.local', 'mesh.test', '*.test', 'mesh.*', '*'] }), null],
    [when({ key: 'source.trustDomain', values: ['mesh.test', 'cluster.local'] }), null],
  ];
  for (const [document, warning] of rows) {
    it(JSON.stringify((document as { spec: unknown }).spec), () => {
      const warnings = warningsIn('mesh.test', [document]);
      assert.equal(warnings.length, warning === null ? 0 : 1, warnings.join('\n'));
      if (warning !== null) assert.match(warnings[0] ?? '', warning);
      assert.deepEqual(warningsOf(document), [], 'without a mesh its trust domain is not known');
    });
  }
});

describe('selectors of policies for the cluster that contradict themselves', () => {
  const impossible = {
    matchExpressions: [
      { key: 'a', operator: 'Exists' },
      { key: 'a', operator: 'DoesNotExist' },
    ],
  };
  const kinds: readonly (readonly [object, object])[] = [
    [
      { apiVersion: 'policy.networking.k8s.io/v1alpha2', kind: 'ClusterNetworkPolicy', metadata: { name: 'x' } },
      { tier: 'Admin', priority: 1 },
    ],
    [
      { apiVersion: 'policy.networking.k8s.io/v1alpha1', kind: 'AdminNetworkPolicy', metadata: { name: 'x' } },
      { priority: 1 },
    ],
    [
      {
        apiVersion: 'policy.networking.k8s.io/v1alpha1',
        kind: 'BaselineAdminNetworkPolicy',
        metadata: { name: 'default' },
      },
      {},
    ],
  ];
  const any = { namespaces: {} };
  const deny = (peers: object) => [{ action: 'Deny', ...peers }];
  const parts: readonly (readonly [object, RegExp])[] = [
    [
      { subject: { namespaces: impossible } },
      /spec\.subject\.namespaces: selects nothing: the label a cannot be there/,
    ],
    [
      { subject: { pods: { namespaceSelector: impossible, podSelector: {} } } },
      /spec\.subject\.pods\.namespaceSelector: selects/,
    ],
    [
      { subject: { pods: { namespaceSelector: {}, podSelector: impossible } } },
      /spec\.subject\.pods\.podSelector: selects/,
    ],
    [
      { subject: any, ingress: deny({ from: [any, { namespaces: impossible }] }) },
      /spec\.ingress\[0\]\.from\[1\]\.namespaces/,
    ],
    [
      { subject: any, egress: deny({ to: [{ pods: { namespaceSelector: {}, podSelector: impossible } }] }) },
      /spec\.egress\[0\]\.to\[0\]\.pods\.podSelector/,
    ],
  ];
  for (const [head, spec] of kinds) {
    for (const [part, warning] of parts) {
      it(`${(head as { kind: string }).kind} ${JSON.stringify(part)}`, () => {
        const found = warningsOf({ ...head, spec: { ...spec, ...part } }).filter((text) =>
          text.includes('selects nothing'),
        );
        assert.equal(found.length, 1, found.join('\n'));
        assert.match(found[0] ?? '', warning);
      });
    }
  }
});
