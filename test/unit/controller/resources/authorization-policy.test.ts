import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compileAuthorization } from '../../../../controller/compile/compile-authorization.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';

type Json = Record<string, unknown>;

function parse(spec: unknown, extra: Json = {}) {
  const document = {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'api', namespace: 'billing' },
    spec,
    ...extra,
  };
  const { resources, problems } = parseDocuments(JSON.stringify(document));
  return { resource: resources[0], problems: problems.map((p) => `${p.path}: ${p.message} | ${p.hint}`) };
}

const fromSource = (source: Json): Json => ({ rules: [{ from: [{ source }] }] });
const when = (condition: Json): Json => ({ rules: [{ when: [condition] }] });
const toOperation = (operation: Json): Json => ({ rules: [{ to: [{ operation }] }] });

describe('AuthorizationPolicy', () => {
  for (const apiVersion of ['culvert.dev/v1', 'security.istio.io/v1', 'security.istio.io/v1beta1']) {
    it(`is accepted with apiVersion ${apiVersion}`, () => {
      const { resource, problems } = parse({}, { apiVersion });
      assert.deepEqual(problems, []);
      assert.deepEqual(resource?.spec, { action: 'ALLOW' });
    });
  }

  it('is accepted as `kubectl get -o yaml` prints it', () => {
    const metadata = {
      name: 'api',
      namespace: 'billing',
      uid: 'x',
      resourceVersion: '1',
      generation: 1,
      managedFields: [],
    };
    const { resource, problems } = parse({ rules: [{}] }, { metadata, status: { conditions: [] } });
    assert.deepEqual(problems, []);
    assert.deepEqual(resource?.metadata, { name: 'api', namespace: 'billing' });
  });

  const accepted: readonly Json[] = [
    { rules: [] },
    { rules: [{}] },
    { action: 'DENY', rules: [{}] },
    { selector: { matchLabels: { app: 'db' } } },
    { selector: {} },
    fromSource({
      principals: ['*'],
      notPrincipals: ['cluster.local/ns/a/*'],
      namespaces: ['a'],
      notNamespaces: ['*-x'],
    }),
    fromSource({ ipBlocks: ['10.1.2.3', '10.0.0.0/8', '2001:db8::/32'], notIpBlocks: ['10.2.3.4/16'] }),
    fromSource({ serviceAccounts: ['a/b', 'api'], notIpBlocks: ['10.0.0.1'] }),
    fromSource({ notServiceAccounts: ['a/b'] }),
    fromSource({ trustDomains: ['cluster.local', '*'], notTrustDomains: ['old-*'] }),
    when({ key: 'source.serviceAccount', values: ['a/b', 'api'] }),
    when({ key: 'source.trustDomain', notValues: ['old.test'] }),
    toOperation({ ports: ['80', 443], notPorts: ['22'] }),
    when({ key: 'source.ip', values: ['10.0.0.1', 'fd00::/8'], notValues: ['10.0.0.0/8'] }),
    when({ key: 'destination.port', values: ['80'] }),
    when({ key: 'source.principal', notValues: ['*'] }),
  ];
  for (const spec of accepted) {
    it(`takes ${JSON.stringify(spec)}`, () => assert.deepEqual(parse(spec).problems, []));
  }

  for (const spec of [null, undefined]) {
    it(`allows nothing with the spec ${String(spec)}, which Istio's API leaves optional`, () => {
      const { resource, problems } = parse(spec);
      assert.deepEqual(problems, []);
      assert.deepEqual(resource?.spec, { action: 'ALLOW' });
    });
  }
  for (const [value, isDryRun] of [
    ['true', true],
    ['1', true],
    ['T', true],
    ['false', false],
    ['0', false],
  ] as const) {
    it(`with istio.io/dry-run: "${value}" is ${isDryRun ? 'tried only' : 'enforced'}`, () => {
      const metadata = { name: 'api', namespace: 'billing', annotations: { 'istio.io/dry-run': value } };
      const { resource, problems } = parse({}, { metadata });
      assert.deepEqual(problems, []);
      assert.ok(resource?.kind === 'AuthorizationPolicy');
      assert.equal(compileAuthorization([resource], 'mesh.test')[0]?.dryRun, isDryRun ? true : undefined);
    });
  }
  it('is refused with a dry run that is no boolean', () => {
    const metadata = { name: 'api', annotations: { 'istio.io/dry-run': 'yes' } };
    assert.deepEqual(parse({}, { metadata }).problems, [
      'metadata.annotations["istio.io/dry-run"]: "yes" must be "true" or "false" | ',
    ]);
  });
  it('cuts off bits right of the prefix of an IP block, as Istio does', () => {
    const { resource } = parse(fromSource({ ipBlocks: ['10.1.2.3/8'] }));
    assert.ok(resource?.kind === 'AuthorizationPolicy');
    assert.deepEqual(resource.spec.rules, [{ from: [{ source: { ipBlocks: ['10.0.0.0/8'] } }] }]);
  });

  const refused: readonly (readonly [spec: unknown, problem: RegExp])[] = [
    [{ action: 'AUDIT' }, /^spec\.action: "AUDIT" is not supported .*SegmentationRule with mode audit/],
    [{ action: 'CUSTOM' }, /^spec\.action: "CUSTOM" hands the decision to an external authorizer/],
    [{ action: 'allow' }, /^spec\.action: must not be "allow" \| did you mean "ALLOW"\?/],
    [{ provider: { name: 'x' } }, /^spec\.provider: is not supported/],
    [{ targetRefs: [] }, /^spec\.targetRefs: is not supported/],
    [{ selector: { matchExpressions: [] } }, /^spec\.selector\.matchExpressions: is not a field here/],
    [{ rules: [null] }, /^spec\.rules\[0\]: has no value/],
    [{ rules: [{ from: [] }] }, /^spec\.rules\[0\]\.from: must not be empty/],
    [{ rules: [{ from: [{}] }] }, /^spec\.rules\[0\]\.from\[0\]\.source: is missing/],
    [
      { rules: [{ when: [{ key: 'request.headers[x]' }] }] },
      /^spec\.rules\[0\]\.when\[0\]\.key: "request\.headers\[x\]" needs HTTP/,
    ],
    [
      when({ key: 'remote.ip', values: ['10.0.0.1'] }),
      /key: "remote\.ip" comes from X-Forwarded-For .* Use source\.ip/,
    ],
    [when({ key: 'connection.sni', values: ['a'] }), /key: "connection\.sni" is in the TLS of the application/],
    [when({ key: 'experimental.envoy.filters.x', values: ['a'] }), /key: .* belongs to the filters of Envoy/],
    [when({ key: 'source.port', values: ['a'] }), /key: "source\.port" is no condition: the keys are source\.ip, /],
    [when({ key: 'source.ip' }), /^spec\.rules\[0\]\.when\[0\]: must have values or notValues/],
    [when({ key: 'source.ip', values: [] }), /when\[0\]\.values: must not be empty/],
    [when({ key: 'source.ip', values: ['x'] }), /values\[0\]: "x" is neither an IP address nor a CIDR/],
    [
      when({ key: 'destination.port', notValues: ['80-90'] }),
      /notValues\[0\]: "80-90" must be a port.*for example "5432"/,
    ],
    [when({ key: 'source.principal', values: ['spiffe://a'] }), /values\[0\]: .*without "spiffe:\/\/"/],
    [
      when({ key: 'source.serviceAccount', values: ['a/*'] }),
      /values\[0\]: "a\/\*" must be NAMESPACE\/NAME, or.*for example "billing\/api"/,
    ],
    [fromSource({}), /source: must have at least one field/],
    [fromSource({ principals: [] }), /principals: must not be empty/],
    [fromSource({ principals: [''] }), /principals\[0\]: "" must not be empty/],
    [fromSource({ principals: ['spiffe://a/ns/b/sa/c'] }), /principals\[0\]: .*without "spiffe:\/\/"/],
    [fromSource({ ipBlocks: ['x'] }), /ipBlocks\[0\]: "x" is neither an IP address nor a CIDR/],
    [fromSource({ serviceAccounts: ['a/*'] }), /serviceAccounts\[0\]: "a\/\*" must be NAMESPACE\/NAME or NAME/],
    [
      fromSource({ serviceAccounts: ['a/b'], namespaces: ['a'] }),
      /source\.serviceAccounts: .*cannot stand next to principals or namespaces/,
    ],
    ...['requestPrincipals', 'notRequestPrincipals', 'remoteIpBlocks', 'notRemoteIpBlocks'].map(
      (field) => [fromSource({ [field]: ['x'] }), new RegExp(`${field}: is not supported \\| .*HTTP`)] as const,
    ),
    [toOperation({}), /operation: must have at least one field/],
    [toOperation({ ports: ['0'] }), /ports\[0\]: "0" must be a port/],
    [toOperation({ ports: ['80-90'] }), /ports\[0\]: "80-90" must be a port.*for example "5432"/],
    ...['methods', 'notMethods', 'paths', 'notPaths', 'hosts', 'notHosts'].map(
      (field) =>
        [
          toOperation({ [field]: ['x'] }),
          new RegExp(`operation\\.${field}: is not supported \\| .*needs HTTP`),
        ] as const,
    ),
  ];
  for (const [spec, problem] of refused) {
    it(`refuses ${JSON.stringify(spec) ?? ''}`, () => {
      const { resource, problems } = parse(spec);
      assert.equal(resource, undefined);
      assert.equal(problems.length, 1, problems.join('\n'));
      assert.match(problems[0] ?? '', problem);
    });
  }
});
