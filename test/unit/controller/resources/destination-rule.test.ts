import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { CompiledDestinationRule } from '../../../../shared/policy/traffic-documents.js';
import { writeSnapshot } from '../../../../shared/wire/snapshot-text.js';
import { assertRefused, compileDocuments } from '../../../support/controller/compiled-documents.js';

function document(spec: unknown, rest: object = {}): string {
  const metadata = { name: 'r', namespace: 'shop' };
  return JSON.stringify({ apiVersion: 'networking.istio.io/v1', kind: 'DestinationRule', metadata, spec, ...rest });
}

const compiled = (spec: unknown): CompiledDestinationRule | undefined =>
  compileDocuments(document(spec)).destinationRules?.[0];
const lb = (loadBalancer: unknown) => ({ host: 'web', trafficPolicy: { loadBalancer } });

describe('a DestinationRule of Istio becomes', () => {
  const plain = { namespace: 'shop', name: 'r', host: 'web.shop.svc.cluster.local', policy: {}, ports: {} };
  const rows: readonly (readonly [what: string, spec: unknown, expected: Partial<CompiledDestinationRule>])[] = [
    ['a host alone', { host: 'web' }, {}],
    ['nulls, as an API server may write them', { host: 'web', trafficPolicy: null, exportTo: null, subsets: null }, {}],
    ['in turns', lb({ simple: 'ROUND_ROBIN' }), { policy: { balancing: 'round-robin' } }],
    ['at random', lb({ simple: 'RANDOM' }), { policy: { balancing: 'random' } }],
    ['by open connections', lb({ simple: 'LEAST_REQUEST' }), { policy: { balancing: 'least-connections' } }],
    ['by its older name', lb({ simple: 'LEAST_CONN' }), { policy: { balancing: 'least-connections' } }],
    ['unspecified', lb({ simple: 'UNSPECIFIED' }), {}],
    ['an empty load balancer', lb({}), {}],
    ['by the source', lb({ consistentHash: { useSourceIp: true } }), { policy: { balancing: 'source-ip' } }],
    ['what the mesh does anyway', { host: 'web', trafficPolicy: { tls: { mode: 'ISTIO_MUTUAL' } } }, {}],
    [
      'ports',
      {
        host: '*.shop.svc.cluster.local',
        trafficPolicy: {
          loadBalancer: { simple: 'RANDOM' },
          portLevelSettings: [
            { port: { number: 80 }, loadBalancer: { simple: 'ROUND_ROBIN' } },
            { port: { number: 81 }, tls: { mode: 'ISTIO_MUTUAL' } },
          ],
        },
      },
      {
        host: '*.shop.svc.cluster.local',
        policy: { balancing: 'random' },
        ports: { '80': { balancing: 'round-robin' }, '81': {} },
      },
    ],
    [
      'subsets',
      {
        host: 'web',
        subsets: [
          { name: 'v1', labels: { version: 'v1' } },
          { name: 'v2', labels: { version: 'v2' }, trafficPolicy: { loadBalancer: { simple: 'RANDOM' } } },
        ],
      },
      {
        subsets: [
          { name: 'v1', labels: { version: 'v1' }, policy: {}, ports: {} },
          { name: 'v2', labels: { version: 'v2' }, policy: { balancing: 'random' }, ports: {} },
        ],
      },
    ],
    [
      'limits of connections',
      {
        host: 'web',
        trafficPolicy: {
          connectionPool: {
            tcp: {
              maxConnections: 100,
              connectTimeout: '1.5s',
              idleTimeout: '0s',
              maxConnectionDuration: '1h30m',
            },
          },
          portLevelSettings: [{ port: { number: 80 }, connectionPool: { tcp: { maxConnections: 1 } } }],
        },
        subsets: [
          { name: 'v1', labels: { v: '1' }, trafficPolicy: { connectionPool: { tcp: { idleTimeout: '5m' } } } },
        ],
      },
      {
        policy: {
          connections: { max: 100, connectTimeoutMs: 1500, idleTimeoutMs: 0, maxDurationMs: 5_400_000 },
        },
        ports: { '80': { connections: { max: 1 } } },
        subsets: [{ name: 'v1', labels: { v: '1' }, policy: { connections: { idleTimeoutMs: 300_000 } }, ports: {} }],
      },
    ],
    ...(
      [
        ['the values of Istio', {}, {}],
        ['the smaller of two counts', { consecutive5xxErrors: 7, consecutiveGatewayErrors: 3 }, { failures: 3 }],
        ['one count alone', { consecutive5xxErrors: 0, consecutiveGatewayErrors: 9 }, { failures: 9 }],
        [
          'failures of its own side',
          { consecutive5xxErrors: 1, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4 },
          { failures: 4 },
        ],
        [
          'times and shares',
          { interval: '1m', baseEjectionTime: '5s', maxEjectionPercent: 0, minHealthPercent: 100 },
          { decayMs: 60_000, baseEjectionMs: 5000, maxEjectionPercent: 0, minHealthPercent: 100 },
        ],
      ] as const
    ).map(([what, outlierDetection, outliers]): [string, unknown, Partial<CompiledDestinationRule>] => [
      `outlier detection with ${what}`,
      { host: 'web', trafficPolicy: { outlierDetection } },
      {
        policy: {
          outliers: {
            failures: 5,
            baseEjectionMs: 30_000,
            decayMs: 10_000,
            maxEjectionPercent: 10,
            minHealthPercent: 0,
            ...outliers,
          },
        },
      },
    ]),
    [
      'outlier detection that counts nothing',
      { host: 'web', trafficPolicy: { outlierDetection: { consecutive5xxErrors: 0 } } },
      {},
    ],
    [
      'a warm-up',
      {
        host: 'web',
        trafficPolicy: { loadBalancer: { warmup: { duration: '1m', minimumPercent: 2.5, aggression: 2 } } },
      },
      { policy: { warmup: { durationMs: 60_000, minPercent: 2.5, aggression: 2 } } },
    ],
    [
      'a warm-up with the values of Istio, by its older name',
      { host: 'web', trafficPolicy: { loadBalancer: { simple: 'RANDOM', warmupDurationSecs: '30s' } } },
      { policy: { balancing: 'random', warmup: { durationMs: 30_000, minPercent: 10, aggression: 1 } } },
    ],
    [
      'a budget of retries',
      { host: 'web', trafficPolicy: { retryBudget: { percent: 2.5, minRetryConcurrency: 0 } } },
      { policy: { retries: { percent: 2.5, minConcurrency: 0 } } },
    ],
    [
      'a budget of retries with the values of Istio',
      { host: 'web', trafficPolicy: { retryBudget: {} } },
      { policy: { retries: { percent: 20, minConcurrency: 3 } } },
    ],
    [
      'keepalive',
      {
        host: 'web',
        trafficPolicy: { connectionPool: { tcp: { tcpKeepalive: { time: '1m30s', interval: '10s', probes: 3 } } } },
        subsets: [{ name: 'v1', labels: { v: '1' }, trafficPolicy: { connectionPool: { tcp: { tcpKeepalive: {} } } } }],
      },
      {
        policy: { connections: { keepalive: { idleSeconds: 90, everySeconds: 10, probes: 3 } } },
        subsets: [
          {
            name: 'v1',
            labels: { v: '1' },
            policy: { connections: { keepalive: { idleSeconds: 7200, everySeconds: 75, probes: 9 } } },
            ports: {},
          },
        ],
      },
    ],
    ['an empty connection pool', { host: 'web', trafficPolicy: { connectionPool: { tcp: {} } } }, {}],
    ['no subset', { host: 'web', subsets: [] }, {}],
    ['for all', { host: 'web', exportTo: ['*', 'billing'] }, {}],
    ['for all, by an empty list', { host: 'web', exportTo: [] }, {}],
    ['for its own namespace', { host: 'web', exportTo: ['.'] }, { exportTo: ['shop'] }],
    ['for some', { host: 'web', exportTo: ['.', 'billing', 'shop'] }, { exportTo: ['billing', 'shop'] }],
  ];
  for (const [what, spec, expected] of rows) {
    it(what, () => assert.deepEqual(compiled(spec), { ...plain, ...expected }));
  }

  it('with a limit of pending connections, of culvert.dev/v1 alone', () => {
    const spec = { host: 'web', trafficPolicy: { connectionPool: { tcp: { maxPendingConnections: 5 } } } };
    const { destinationRules } = compileDocuments(document(spec, { apiVersion: 'culvert.dev/v1' }));
    assert.deepEqual(destinationRules?.[0]?.policy, { connections: { maxPending: 5 } });
  });

  for (const apiVersion of ['networking.istio.io/v1beta1', 'networking.istio.io/v1alpha3', 'culvert.dev/v1']) {
    it(`the same in ${apiVersion}`, () => {
      assert.deepEqual(compileDocuments(document({ host: 'web' }, { apiVersion })).destinationRules, [plain]);
    });
  }
});

/** What is not served is refused with its place and what to do: a document that was taken would steer nothing. */
describe('a DestinationRule is refused for', () => {
  const policy = (trafficPolicy: unknown) => ({ host: 'web', trafficPolicy });
  const pool = (tcp: unknown) => ({ connectionPool: { tcp } });
  const rows: readonly (readonly [path: string, spec: unknown, why: RegExp])[] = [
    ['spec.host', {}, /is missing/],
    [
      'spec.host',
      { host: 'web.other' },
      /no service of the mesh has it \(for example web\.other\.svc\.cluster\.local\)/,
    ],
    ['spec.host', { host: 'www.example.com' }, /names no service of the mesh/],
    ['spec.host', { host: '*.example.com' }, /names no service of the mesh/],
    ['spec.subsets[0].labels', { host: 'web', subsets: [{ name: 'v1', labels: {} }] }, /at least one label/],
    [
      'spec.subsets[1].name',
      {
        host: 'web',
        subsets: [
          { name: 'v1', labels: { a: 'b' } },
          { name: 'v1', labels: { a: 'c' } },
        ],
      },
      /is listed twice/,
    ],
    [
      'spec.subsets[0].trafficPolicy.connectionPool.tcp.maxPendingConnections',
      { host: 'web', subsets: [{ name: 'v1', labels: { a: 'b' }, trafficPolicy: pool({ maxPendingConnections: 5 }) }] },
      /is no field of Istio: write apiVersion culvert\.dev\/v1/,
    ],
    [
      'spec.trafficPolicy.portLevelSettings[0].connectionPool.tcp.maxPendingConnections',
      policy({ portLevelSettings: [{ port: { number: 80 }, ...pool({ maxPendingConnections: 5 }) }] }),
      /is no field of Istio/,
    ],
    ['spec.trafficPolicy.connectionPool.tcp.maxConnections', policy(pool({ maxConnections: 0 })), /at least 1/],
    ['spec.trafficPolicy.connectionPool.tcp.maxConnections', policy(pool({ maxConnections: 1.5 })), /whole number/],
    ['spec.trafficPolicy.connectionPool.tcp.maxConnections', policy(pool({ maxConnections: 2 ** 31 })), /at most/],
    ['spec.trafficPolicy.connectionPool.tcp.connectTimeout', policy(pool({ connectTimeout: '0s' })), /at least 1ms/],
    ['spec.trafficPolicy.connectionPool.tcp.connectTimeout', policy(pool({ connectTimeout: '5' })), /such as 2s/],
    ['spec.trafficPolicy.connectionPool.tcp.idleTimeout', policy(pool({ idleTimeout: '-1s' })), /such as 1h/],
    [
      'spec.trafficPolicy.connectionPool.tcp.maxConnectionDuration',
      policy(pool({ maxConnectionDuration: '0s' })),
      /at least 1ms/,
    ],
    ...(
      [
        ['time', '0s', /whole seconds such as 60s, at least 1s/],
        ['time', '1.5s', /whole seconds/],
        ['interval', '500ms', /whole seconds such as 10s/],
        ['interval', '9h6m8s', /at most 32767s/],
        ['interval', 10, /must be/],
        ['probes', 0, /at least 1/],
        ['probes', 128, /at most 127/],
        ['probes', 1.5, /whole number/],
        ['timeout', '1s', /is not a field here/],
      ] as const
    ).map(
      ([field, value, why]) =>
        [
          `spec.trafficPolicy.connectionPool.tcp.tcpKeepalive.${field}`,
          policy(pool({ tcpKeepalive: { [field]: value } })),
          why,
        ] as const,
    ),
    ['spec.workloadSelector', { host: 'web', workloadSelector: {} }, /does not serve it/],
    ['spec.exportTo[0]', { host: 'web', exportTo: ['~'] }, /must be a namespace, "\." or "\*"/],
    ['spec.trafficPolicy.connectionPool.http', policy({ connectionPool: { http: {} } }), /write tcp/],
    ...(
      [
        ['consecutive5xxErrors', -1, /not be negative/],
        ['consecutive5xxErrors', 1.5, /whole number/],
        ['consecutiveGatewayErrors', 1001, /at most 1000/],
        ['consecutiveLocalOriginFailures', 3, /counts only with splitExternalLocalOriginErrors: true/],
        ['consecutiveErrors', 3, /write that/],
        ['interval', '0s', /at least 1ms/],
        ['baseEjectionTime', '30', /such as 30s/],
        ['maxEjectionPercent', 101, /from 0 to 100/],
        ['minHealthPercent', -1, /from 0 to 100/],
      ] as const
    ).map(
      ([field, value, why]) =>
        [
          `spec.trafficPolicy.outlierDetection.${field}`,
          policy({ outlierDetection: { [field]: value } }),
          why,
        ] as const,
    ),
    ['spec.trafficPolicy.retryBudget.percent', policy({ retryBudget: { percent: 101 } }), /from 0 to 100/],
    ['spec.trafficPolicy.retryBudget.percent', policy({ retryBudget: { percent: -1 } }), /from 0 to 100/],
    [
      'spec.trafficPolicy.retryBudget.minRetryConcurrency',
      policy({ retryBudget: { minRetryConcurrency: -1 } }),
      /not be negative/,
    ],
    ['spec.trafficPolicy.proxyProtocol', policy({ proxyProtocol: {} }), /address of the client/],
    ['spec.trafficPolicy.tunnel', policy({ tunnel: {} }), /tunnels of the mesh/],
    ['spec.trafficPolicy.tls.mode', policy({ tls: { mode: 'DISABLE' } }), /take encryption away/],
    ['spec.trafficPolicy.tls.mode', policy({ tls: { mode: 'SIMPLE' } }), /on behalf of the client/],
    ['spec.trafficPolicy.tls.mode', policy({ tls: { mode: 'MUTUAL' } }), /on behalf of the client/],
    ...['clientCertificate', 'privateKey', 'caCertificates', 'caCrl', 'credentialName', 'sni'].map(
      (field) => [`spec.trafficPolicy.tls.${field}`, policy({ tls: { [field]: 'x' } }), /its own TLS/] as const,
    ),
    ['spec.trafficPolicy.tls.subjectAltNames', policy({ tls: { subjectAltNames: [] } }), /which identity/],
    ['spec.trafficPolicy.tls.insecureSkipVerify', policy({ tls: { insecureSkipVerify: true } }), /always verify/],
    ['spec.trafficPolicy.loadBalancer.simple', lb({ simple: 'PASSTHROUGH' }), /nothing listens/],
    ['spec.trafficPolicy.loadBalancer.simple', lb({ simple: 'FASTEST' }), /The values are UNSPECIFIED, ROUND_ROBIN/],
    ['spec.trafficPolicy.loadBalancer.localityLbSetting', lb({ localityLbSetting: {} }), /trafficDistribution/],
    ['spec.trafficPolicy.loadBalancer.warmup.duration', lb({ warmup: {} }), /is missing/],
    ['spec.trafficPolicy.loadBalancer.warmup.duration', lb({ warmup: { duration: '61m' } }), /at most 60m/],
    ['spec.trafficPolicy.loadBalancer.warmup.duration', lb({ warmup: { duration: '0s' } }), /at least 1ms/],
    [
      'spec.trafficPolicy.loadBalancer.warmup.minimumPercent',
      lb({ warmup: { duration: '1m', minimumPercent: 101 } }),
      /from 0 to 100/,
    ],
    [
      'spec.trafficPolicy.loadBalancer.warmup.aggression',
      lb({ warmup: { duration: '1m', aggression: 0.5 } }),
      /at least 1/,
    ],
    ['spec.trafficPolicy.loadBalancer.warmupDurationSecs', lb({ warmupDurationSecs: '2h' }), /at most 60m/],
    [
      'spec.trafficPolicy.loadBalancer.warmupDurationSecs',
      lb({ warmupDurationSecs: '10s', warmup: { duration: '10s' } }),
      /older name/,
    ],
    [
      'spec.trafficPolicy.loadBalancer.warmup',
      lb({ warmup: { duration: '10s' }, consistentHash: { useSourceIp: true } }),
      /no meaning with consistentHash/,
    ],
    [
      'spec.trafficPolicy.loadBalancer.consistentHash',
      lb({ simple: 'RANDOM', consistentHash: { useSourceIp: true } }),
      /leave out one of the two/,
    ],
    ['spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp', lb({ consistentHash: {} }), /is missing/],
    [
      'spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp',
      lb({ consistentHash: { useSourceIp: false } }),
      /true/,
    ],
    ...['httpHeaderName', 'httpCookie', 'httpQueryParameterName'].map(
      (field) =>
        [
          `spec.trafficPolicy.loadBalancer.consistentHash.${field}`,
          lb({ consistentHash: { useSourceIp: true, [field]: 'x' } }),
          /use useSourceIp/,
        ] as const,
    ),
    ...['ringHash', 'maglev', 'minimumRingSize'].map(
      (field) =>
        [
          `spec.trafficPolicy.loadBalancer.consistentHash.${field}`,
          lb({ consistentHash: { useSourceIp: true, [field]: 1 } }),
          /leave it out/,
        ] as const,
    ),
    ['spec.trafficPolicy.portLevelSettings[0].port', policy({ portLevelSettings: [{}] }), /is missing/],
    [
      'spec.trafficPolicy.portLevelSettings[0].outlierDetection',
      policy({ portLevelSettings: [{ port: { number: 80 }, outlierDetection: 5 }] }),
      /must be/,
    ],
    [
      'spec.trafficPolicy.portLevelSettings[1].port.number',
      policy({ portLevelSettings: [{ port: { number: 80 } }, { port: { number: 80 } }] }),
      /is listed twice/,
    ],
  ];
  for (const [path, spec, why] of rows) {
    it(`${path}: ${JSON.stringify(spec)}`, () => {
      assertRefused(document(spec), path, why);
    });
  }
});

describe('DestinationRules together', () => {
  const named = (name: string, namespace: string, host: string) =>
    document({ host }, { metadata: { name, namespace } });
  const web = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop' },
    spec: { vips: ['198.19.0.1'], ports: [{ port: 80 }], selector: { app: 'web' } },
  });
  const found = (...documents: readonly string[]): string[] => {
    const { resources, problems } = parseDocuments([web, ...documents].join('\n---\n'));
    assert.deepEqual(problems, []);
    return validateSet(resources)
      .filter(({ resource }) => resource?.startsWith('DestinationRule') === true)
      .map((problem) => `${problem.severity} ${formatProblem(problem)}`);
  };

  it('are refused where two of a namespace are for one service, however they write it', () => {
    const [problem, ...others] = found(named('b', 'shop', 'web.shop.svc.cluster.local'), named('a', 'shop', 'web'));
    assert.match(
      problem ?? '',
      /^error .*DestinationRule\/shop\/b: spec\.host: DestinationRule\/shop\/a is for web\.shop\.svc\.cluster\.local already/,
    );
    assert.deepEqual(others, []);
  });

  it('are taken where their namespaces or hosts differ', () => {
    const documents = [
      named('a', 'shop', 'web'),
      named('b', 'billing', 'web.shop.svc.cluster.local'),
      named('c', 'shop', '*'),
    ];
    assert.deepEqual(found(...documents), []);
  });

  it('are warned of where there is no such service, with the nearest one', () => {
    assert.match(
      found(named('a', 'shop', 'webb')).join('\n'),
      /^warning .*spec\.host: there is no Service shop\/webb \(did you mean "shop\/web"\?\)/,
    );
  });

  it('stay the same objects while their documents do, and are not there when there is none', () => {
    const { resources } = parseDocuments([named('a', 'shop', 'web'), named('b', 'billing', 'web')].join('\n---\n'));
    const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'x', trustDomain: 'mesh.test' };
    const [first, second] = [resources, resources.toReversed()].map((each) => compileSnapshot(each, meta));
    assert.ok(first !== undefined && 'snapshot' in first && second !== undefined && 'snapshot' in second);
    const { destinationRules: rules = [] } = first.snapshot;
    assert.deepEqual(
      rules.map(({ namespace, name }) => `${namespace}/${name}`),
      ['billing/b', 'shop/a'],
    );
    for (const [index, rule] of rules.entries()) assert.equal(second.snapshot.destinationRules?.[index], rule);
    assert.ok(!Object.hasOwn(compileDocuments(web), 'destinationRules'));
  });

  it('may be passed over by agents that do not know them, and only these say so', () => {
    assert.match(
      writeSnapshot(compileDocuments(named('a', 'shop', 'web'))),
      /"ignorable":\["destinationRules","destinationRules\.subsets","destinationRules\.policy\.connections\.keepalive",[^\]]*\]/,
    );
    assert.doesNotMatch(writeSnapshot(compileDocuments(web)), /ignorable/);
  });
});
