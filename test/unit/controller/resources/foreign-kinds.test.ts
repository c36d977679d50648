import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { compileDocuments } from '../../../support/controller/compiled-documents.js';

type Json = Record<string, unknown>;

const apiVersions: Readonly<Record<string, string>> = {
  AuthorizationPolicy: 'security.istio.io/v1',
  Namespace: 'v1',
  NetworkPolicy: 'networking.k8s.io/v1',
  PeerAuthentication: 'security.istio.io/v1',
  ServiceEntry: 'networking.istio.io/v1',
};

function document(kind: string, spec: unknown, rest: Json = {}): string {
  const metadata = { name: 'x', ...(kind === 'Namespace' ? {} : { namespace: 'billing' }) };
  return JSON.stringify({ apiVersion: apiVersions[kind] ?? 'culvert.dev/v1', kind, metadata, spec, ...rest });
}

function problemsOf(text: string): string[] {
  return parseDocuments(text).problems.map((p) => `${p.path}: ${p.message} | ${p.hint}`);
}

const app = (value: string) => ({ matchLabels: { app: value } });
const bank = { hosts: ['bank.example'], addresses: ['203.0.113.9'] };

describe('documents of Istio and Kubernetes that are taken as they are', () => {
  const cases: readonly (readonly [kind: string, spec: unknown, rest?: Json])[] = [
    ['Namespace', { finalizers: ['kubernetes'] }, { status: { phase: 'Active' } }],
    ['Namespace', undefined],
    ['Namespace', {}, { metadata: { name: 'x', uid: '1', labels: { team: 'a', 'kubernetes.io/metadata.name': 'x' } } }],
    ['Namespace', {}, { apiVersion: 'culvert.dev/v1' }],
    ['PeerAuthentication', {}],
    ['PeerAuthentication', undefined],
    ['PeerAuthentication', { mtls: {} }],
    ['PeerAuthentication', { mtls: { mode: 'UNSET' } }, { apiVersion: 'security.istio.io/v1beta1' }],
    ['PeerAuthentication', { selector: app('db'), portLevelMtls: { '8080': { mode: 'PERMISSIVE' } } }],
    ['ServiceEntry', bank],
    ['ServiceEntry', { ...bank, location: 'MESH_EXTERNAL', resolution: 'NONE', exportTo: ['*'] }],
    ['ServiceEntry', { hosts: ['*.example'], endpoints: [{ address: '203.0.113.9' }], resolution: 'STATIC' }],
    ['ServiceEntry', { ...bank, ports: [{ number: 443, name: 'tls', protocol: 'TLS' }] }],
    [
      'ServiceEntry',
      {
        ...bank,
        ports: [
          { number: 443, protocol: 'https' },
          { number: 80, protocol: 'tcp' },
        ],
      },
    ],
    ['NetworkPolicy', { podSelector: {} }],
    ['NetworkPolicy', {}],
    ['NetworkPolicy', undefined],
    ['NetworkPolicy', null],
    ['NetworkPolicy', { podSelector: null, policyTypes: null, ingress: null, egress: null }, { status: null }],
    ['NetworkPolicy', { podSelector: { matchLabels: null, matchExpressions: null }, policyTypes: [] }],
    [
      'NetworkPolicy',
      {
        egress: [
          { to: null, ports: null },
          {
            to: [
              { podSelector: null, namespaceSelector: {}, ipBlock: null },
              { ipBlock: { cidr: '::/0', except: null } },
            ],
            ports: [{ protocol: null, port: null, endPort: null }],
          },
        ],
      },
    ],
    ['NetworkPolicy', { podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists', values: null }] } }],
    ['AuthorizationPolicy', undefined],
    ['AuthorizationPolicy', null],
    ['AuthorizationPolicy', { selector: null, action: null, rules: null, targetRef: null, provider: null }],
    [
      'AuthorizationPolicy',
      {
        selector: { matchLabels: null },
        rules: [
          { from: null, to: null, when: null },
          {
            from: [{ source: { namespaces: ['a'], principals: null, requestPrincipals: null } }],
            to: [{ operation: { ports: ['1'], methods: null } }],
            when: [{ key: 'source.ip', values: ['10.0.0.0/8'], notValues: null }],
          },
        ],
      },
    ],
    ['PeerAuthentication', null],
    ['PeerAuthentication', { selector: null, mtls: null, portLevelMtls: null }],
    ['PeerAuthentication', { mtls: { mode: null } }],
    ['ServiceEntry', { ...bank, ports: null, location: null, resolution: null, endpoints: null, exportTo: null }],
    ['Namespace', null, { metadata: { name: 'x', labels: null, annotations: null, creationTimestamp: null } }],
    ['NetworkPolicy', { podSelector: app('db'), policyTypes: ['Ingress', 'Egress'], ingress: [{}], egress: [] }],
    [
      'NetworkPolicy',
      {
        podSelector: { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['a'] }] },
        ingress: [
          {
            from: [
              { podSelector: {}, namespaceSelector: {} },
              { ipBlock: { cidr: '10.1.2.3/8', except: ['10.1.0.0/16'] } },
            ],
            ports: [{ port: 80 }, { protocol: 'UDP', port: 53 }, { protocol: 'TCP' }, { port: 1, endPort: 9 }],
          },
        ],
      },
      { status: {} },
    ],
  ];
  for (const [kind, spec, rest] of cases) {
    it(`${kind} ${JSON.stringify(spec) ?? ''} ${JSON.stringify(rest) ?? ''}`, () => {
      const text = document(kind, spec, rest);
      assert.deepEqual(problemsOf(text), []);
      const { resources } = parseDocuments(text);
      assert.deepEqual(parseDocuments(JSON.stringify(resources[0])).resources, resources);
    });
  }
});

describe('documents of Istio and Kubernetes that are refused', () => {
  const peer = (value: unknown) => ({ podSelector: {}, ingress: [{ from: [value] }] });
  const port = (value: unknown) => ({ podSelector: {}, egress: [{ ports: [value] }] });
  const require = (value: unknown) => ({ podSelector: { matchExpressions: [value] } });
  const cases: readonly (readonly [kind: string, spec: unknown, problem: RegExp])[] = [
    // A null that is no absent field: dropping it would select, or allow, more than is written.
    [
      'NetworkPolicy',
      { podSelector: { matchLabels: { app: null } } },
      /^spec\.podSelector\.matchLabels\.app: has no value/,
    ],
    ['NetworkPolicy', { ingress: [null] }, /^spec\.ingress\[0\]: has no value/],
    ['NetworkPolicy', { ingress: [{ from: [null] }] }, /^spec\.ingress\[0\]\.from\[0\]: has no value/],
    ['NetworkPolicy', { ingress: [{ from: [{ podSelector: null }] }] }, /from\[0\]: must name a podSelector/],
    ['NetworkPolicy', { policyType: null }, /^spec\.policyType: is not a field here \| did you mean "policyTypes"/],
    ['AuthorizationPolicy', { rules: [null] }, /^spec\.rules\[0\]: has no value/],
    ['AuthorizationPolicy', { rules: [{ from: [{ source: null }] }] }, /source: is missing/],
    ['AuthorizationPolicy', { rules: [{ from: [{ source: { principals: null } }] }] }, /must have at least one field/],
    [
      'PeerAuthentication',
      { selector: app('a'), portLevelMtls: { '80': null } },
      /^spec\.portLevelMtls\["80"\]: has no value/,
    ],
    ['PeerAuthentication', { mtls: { mode: 'DISABLE' } }, /^spec\.mtls\.mode: "DISABLE" would take encryption away/],
    ['PeerAuthentication', { mtls: { mode: 'strict' } }, /did you mean "STRICT"/],
    ['PeerAuthentication', { portLevelMtls: { '80': {} } }, /^spec\.portLevelMtls: .*needs a selector/],
    [
      'PeerAuthentication',
      { selector: app('a'), portLevelMtls: { http: {} } },
      /^spec\.portLevelMtls\.http: is not a port/,
    ],
    ['ServiceEntry', { hosts: ['bank.example'] }, /^spec\.addresses: are missing, and without them it names nothing/],
    ['ServiceEntry', { ...bank, hosts: [] }, /^spec\.hosts: must have at least one name/],
    ['ServiceEntry', { ...bank, hosts: ['a b'] }, /^spec\.hosts\[0\]: "a b" is not a DNS name/],
    [
      'ServiceEntry',
      { ...bank, resolution: 'DNS' },
      /^spec\.resolution: "DNS" looks up the hosts, and Culvert carries/,
    ],
    [
      'ServiceEntry',
      { ...bank, location: 'MESH_INTERNAL' },
      /^spec\.location: "MESH_INTERNAL" is for members of the mesh/,
    ],
    [
      'ServiceEntry',
      { ...bank, workloadSelector: { labels: {} } },
      /^spec\.workloadSelector: is not supported \| is for/,
    ],
    ['ServiceEntry', { ...bank, subjectAltNames: ['x'] }, /^spec\.subjectAltNames: is not supported/],
    ['ServiceEntry', { ...bank, exportTo: ['.'] }, /^spec\.exportTo\[0\]: must be "\*"/],
    [
      'ServiceEntry',
      { ...bank, endpoints: [{ address: '10.0.0.1' }], resolution: 'STATIC' },
      /^spec\.endpoints: .*route/,
    ],
    ['ServiceEntry', { hosts: ['a'], endpoints: [{ address: '10.0.0.1' }] }, /^spec\.endpoints: .*resolution STATIC/],
    [
      'ServiceEntry',
      { hosts: ['a'], resolution: 'STATIC', endpoints: [{ address: '10.0.0.1', weight: 2 }] },
      /^spec\.endpoints\[0\]\.weight: is not supported/,
    ],
    [
      'ServiceEntry',
      { ...bank, ports: [{ number: 80, targetPort: 81 }] },
      /targetPort: is not supported \| connections/,
    ],
    ['ServiceEntry', { ...bank, ports: [{ number: 80, protocol: 'UDP' }] }, /protocol: must not be "UDP"/],
    ['NetworkPolicy', { podSelector: {}, policyTypes: ['ingress'] }, /policyTypes\[0\]: .*did you mean "Ingress"/],
    ['NetworkPolicy', peer({}), /^spec\.ingress\[0\]\.from\[0\]: must name a podSelector/],
    ['NetworkPolicy', peer({ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }), /ipBlock: .*stands alone/],
    [
      'NetworkPolicy',
      peer({ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }),
      /except\[0\]: .*10\.0\.0\.0\/8/,
    ],
    ['NetworkPolicy', peer({ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.0.0/8'] } }), /must be a smaller network/],
    ['NetworkPolicy', port({ port: 'HTTP' }), /ports\[0\]\.port: "HTTP" must be a port .*, or the name of a port/],
    ['NetworkPolicy', port({ port: '80' }), /ports\[0\]\.port: "80" must be a port .*, or the name of a port/],
    ['NetworkPolicy', port({ port: 'http', endPort: 90 }), /ports\[0\]\.endPort: .*needs a port that is a number/],
    ['NetworkPolicy', port({ port: 70_000 }), /ports\[0\]\.port: 70000 must be a port/],
    ['NetworkPolicy', port({ endPort: 9 }), /endPort: .*needs port/],
    ['NetworkPolicy', port({ port: 10, endPort: 9 }), /endPort: .*must not be lower than port/],
    ['NetworkPolicy', port({ port: 10, protocol: 'tcp' }), /protocol: .*did you mean "TCP"/],
    ['NetworkPolicy', require({ key: 'a', operator: 'In' }), /values: .*must not be empty for In/],
    [
      'NetworkPolicy',
      require({ key: 'a', operator: 'Exists', values: ['b'] }),
      /values: .*must be left out for Exists/,
    ],
  ];
  for (const [kind, spec, problem] of cases) {
    it(`${kind} ${JSON.stringify(spec)}`, () => {
      const problems = problemsOf(document(kind, spec));
      assert.equal(problems.length, 1, problems.join('\n'));
      assert.match(problems[0] ?? '', problem);
    });
  }

  it('a namespace that names another in its own label', () => {
    const metadata = { name: 'x', labels: { 'kubernetes.io/metadata.name': 'y' } };
    assert.match(problemsOf(document('Namespace', {}, { metadata }))[0] ?? '', /must be the name, "x"/);
  });

  it('a NetworkPolicy with the API version of Culvert', () => {
    const text = document('NetworkPolicy', { podSelector: {} }, { apiVersion: 'culvert.dev/v1' });
    assert.match(problemsOf(text)[0] ?? '', /^apiVersion: must not be .* it is networking\.k8s\.io\/v1/);
  });
});

describe('what only the whole set shows', () => {
  const policy = (name: string, spec: Json) =>
    document('PeerAuthentication', spec, { metadata: { name, namespace: 'billing' } });
  const db = document(
    'Workload',
    { addresses: ['198.18.0.1'] },
    { metadata: { name: 'db', namespace: 'billing', labels: { app: 'db', tier: 'a' } } },
  );
  const check = (...documents: string[]) => {
    const { resources, problems } = parseDocuments(documents.join('\n---\n'));
    assert.deepEqual(problems, []);
    return validateSet(resources).map((problem) => `${problem.severity} ${formatProblem(problem)}`);
  };

  it('two PeerAuthentications of one namespace are refused', () => {
    const problems = check(policy('a', { mtls: { mode: 'STRICT' } }), policy('b', {}));
    assert.match(
      problems.join('\n'),
      /^error PeerAuthentication\/billing\/b: spec: it and PeerAuthentication\/billing\/a are both about everything in namespace billing \(Istio goes by the older one/,
    );
  });

  it('two PeerAuthentications that say different things of one workload are refused', () => {
    const strict = policy('a', { selector: app('db'), mtls: { mode: 'STRICT' } });
    const other = { selector: { matchLabels: { tier: 'a' } }, mtls: { mode: 'PERMISSIVE' } };
    assert.match(check(db, strict, policy('b', other)).join('\n'), /both about Workload\/billing\/db/);
    assert.deepEqual(check(db, strict, policy('b', { ...other, mtls: { mode: 'STRICT' } })), []);
    assert.deepEqual(check(strict, policy('b', other)), []);
  });

  it('an allowance for another protocol than TCP is a warning', () => {
    const spec = { podSelector: {}, ingress: [{ ports: [{ port: 1 }, { protocol: 'UDP', port: 53 }] }] };
    assert.match(
      check(document('NetworkPolicy', spec)).join('\n'),
      /^warning .*ports\[1\]\.protocol: Culvert carries TCP/,
    );
  });

  it('a rule may name a ServiceEntry as a service', () => {
    const rule = document(
      'SegmentationRule',
      { action: 'allow', to: [{ service: 'billing/bank' }] },
      { metadata: { name: 'r' } },
    );
    const entry = document('ServiceEntry', bank, { metadata: { name: 'bank', namespace: 'billing' } });
    assert.deepEqual(check(rule, entry), []);
    assert.deepEqual(compileDocuments(rule, entry).rules[0]?.to, [
      { cidrs: ['203.0.113.9/32'], service: 'billing/bank' },
    ]);
    assert.deepEqual(compileDocuments(rule).rules[0]?.to, [{ workloads: [], service: 'billing/bank' }]);
    assert.deepEqual(compileDocuments(rule, entry).rules[0]?.to.length, 1);
  });

  it('a rule may name a service, and means its endpoints', () => {
    const rule = document(
      'SegmentationRule',
      { action: 'allow', from: [{ service: 'billing/x' }], to: [{ segment: 's' }] },
      { metadata: { name: 'r' } },
    );
    const service = document('Service', { vips: ['198.19.0.1'], ports: [{ port: 80 }], selector: { app: 'db' } });
    const segment = document('Segment', { members: [{ service: 'billing/x' }] }, { metadata: { name: 's' } });
    const [compiled] = compileDocuments(rule, service, segment).rules;
    const endpoints = { namespaces: ['billing'], labels: { app: 'db' } };
    assert.deepEqual(compiled?.from, [{ ...endpoints, service: 'billing/x' }]);
    assert.deepEqual(compiled?.to, [{ ...endpoints, segment: 's' }]);
  });
});

describe('the snapshot', () => {
  it('has the labels of namespaces', () => {
    const metadata = { name: 'billing', labels: { team: 'a', 'kubernetes.io/metadata.name': 'billing' } };
    assert.deepEqual(compileDocuments(document('Namespace', {}, { metadata })).namespaces, { billing: { team: 'a' } });
  });

  it('has what ServiceEntries name', () => {
    const ports = [{ number: 443 }, { number: 444 }, { number: 80 }];
    const spec = { hosts: ['bank.example'], addresses: ['203.0.113.9', '10.1.2.3/8', '203.0.113.9'], ports };
    assert.deepEqual(compileDocuments(document('ServiceEntry', spec)).externals, [
      {
        name: 'billing/x',
        hosts: ['bank.example'],
        cidrs: ['10.0.0.0/8', '203.0.113.9/32'],
        ports: [
          [80, 80],
          [443, 444],
        ],
      },
    ]);
  });

  it('has PeerAuthentications without what they leave to a wider scope', () => {
    const spec = {
      selector: app('db'),
      mtls: { mode: 'UNSET' },
      portLevelMtls: { '0080': { mode: 'STRICT' }, '81': { mode: 'UNSET' } },
    };
    assert.deepEqual(compileDocuments(document('PeerAuthentication', spec)).peerAuthentications, [
      { namespace: 'billing', name: 'x', selector: { app: 'db' }, mode: null, ports: { 80: 'STRICT' } },
    ]);
  });

  it('has conditions and accounts of AuthorizationPolicies with their full names', () => {
    const rule = {
      from: [
        { source: { serviceAccounts: ['api', 'shop/web'] } },
        { source: { trustDomains: ['cluster.local'], notTrustDomains: ['old.test'] } },
      ],
      when: [
        { key: 'source.serviceAccount', values: ['api', 'shop/web'] },
        { key: 'source.trustDomain', notValues: ['cluster.local'] },
        { key: 'source.principal', values: ['cluster.local/ns/a/sa/b'] },
        { key: 'source.ip', notValues: ['10.1.2.3/8'] },
      ],
    };
    const [policy] = compileDocuments(document('AuthorizationPolicy', { rules: [rule] })).authorizationPolicies;
    assert.deepEqual(policy?.rules, [
      {
        from: [
          { serviceAccounts: ['billing/api', 'shop/web'] },
          { trustDomains: ['mesh.test'], notTrustDomains: ['old.test'] },
        ],
        to: [],
        when: [
          { key: 'source.serviceAccount', values: ['billing/api', 'shop/web'] },
          { key: 'source.trustDomain', notValues: ['mesh.test'] },
          { key: 'source.principal', values: ['mesh.test/ns/a/sa/b'] },
          { key: 'source.ip', notValues: ['10.0.0.0/8'] },
        ],
      },
    ]);
  });
});
