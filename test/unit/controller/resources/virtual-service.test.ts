import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { assertRefused, compileDocuments } from '../../../support/controller/compiled-documents.js';

const metadata = { name: 'r', namespace: 'shop' };

function document(spec: unknown, rest: object = {}): string {
  return JSON.stringify({ apiVersion: 'networking.istio.io/v1', kind: 'VirtualService', metadata, spec, ...rest });
}

const to = (subset?: string, host = 'web') => ({ destination: { host, ...(subset === undefined ? {} : { subset }) } });
const tcp = (...routes: readonly object[]) => ({ hosts: ['web'], tcp: routes });

const some = { percentage: { value: 10 } };
const ofFault = 'spec.tcp[0].fault';

for (const [path, route, why] of [
  [ofFault, { fault: {} }, /is empty: write delay, abort or throttle/],
  [`${ofFault}.delay.percentage`, { fault: { delay: { fixedDelay: '1s' } } }, /is missing/],
  [`${ofFault}.delay.fixedDelay`, { fault: { delay: some } }, /is missing/],
  [`${ofFault}.delay.fixedDelay`, { fault: { delay: { ...some, fixedDelay: '0s' } } }, /at least 1ms/],
  [`${ofFault}.delay.fixedDelay`, { fault: { delay: { ...some, fixedDelay: '6m' } } }, /at most 5m/],
  [`${ofFault}.delay.percent`, { fault: { delay: { ...some, fixedDelay: '1s', percent: 10 } } }, /write percentage/],
  [
    `${ofFault}.delay.exponentialDelay`,
    { fault: { delay: { ...some, fixedDelay: '1s', exponentialDelay: '1s' } } },
    /fixedDelay/,
  ],
  [`${ofFault}.delay.expiresAt`, { fault: { delay: { ...some, fixedDelay: '1s', expiresAt: 'soon' } } }, /RFC 3339/],
  [`${ofFault}.abort.percentage.value`, { fault: { abort: { percentage: {} } } }, /is missing/],
  [`${ofFault}.abort.percentage.value`, { fault: { abort: { percentage: { value: 100.5 } } } }, /from 0 to 100/],
  [`${ofFault}.abort.percentage.value`, { fault: { abort: { percentage: { value: -1 } } } }, /from 0 to 100/],
  [
    `${ofFault}.abort.httpStatus`,
    { fault: { abort: { ...some, httpStatus: 503 } } },
    /about HTTP: of TCP the whole connection/,
  ],
  [`${ofFault}.abort.grpcStatus`, { fault: { abort: { ...some, grpcStatus: 'X' } } }, /about HTTP/],
  [`${ofFault}.abort.expiresAt`, { fault: { abort: { ...some, expiresAt: '2027-02-30T00:00:00Z' } } }, /RFC 3339/],
  [`${ofFault}.throttle.bytesPerSecond`, { fault: { throttle: some } }, /is missing/],
  [`${ofFault}.throttle.bytesPerSecond`, { fault: { throttle: { ...some, bytesPerSecond: 1023 } } }, /at least 1024/],
  [`${ofFault}.throttle.bytesPerSecond`, { fault: { throttle: { ...some, bytesPerSecond: 5000.5 } } }, /whole number/],
  [`${ofFault}.reset`, { fault: { abort: some, reset: {} } }, /is not a field here/],
  ['spec.tcp[0].mirror.host', { mirror: {} }, /is missing/],
  ['spec.tcp[0].mirror.host', { mirror: { host: '*.shop.svc.cluster.local' } }, /is a wildcard: name one service/],
  ['spec.tcp[0].mirror.host', { mirror: { host: 'example.com' } }, /./],
  ['spec.tcp[0].mirror.port.number', { mirror: { host: 'w', port: { number: 0 } } }, /./],
  ['spec.tcp[0].mirror.weight', { mirror: { host: 'w', weight: 1 } }, /is not a field here/],
  ['spec.tcp[0].mirrorPercentage.value', { mirror: { host: 'w' }, mirrorPercentage: { value: 101 } }, /from 0 to 100/],
  ['spec.tcp[0].mirrorPercentage', { mirrorPercentage: { value: 5 } }, /is the share of mirror, which is missing/],
  ['spec.tcp[0].mirrorPercent', { mirror: { host: 'w' }, mirrorPercent: 5 }, /write mirrorPercentage/],
  ['spec.tcp[0].timeout', { timeout: '0s' }, /at least 1ms/],
  ['spec.tcp[0].retries.attempts', { retries: { attempts: 11 } }, /at most 10/],
  ['spec.tcp[0].retries.attempts', { retries: { attempts: -1 } }, /not be negative/],
  ['spec.tcp[0].retries.perTryTimeout', { retries: { attempts: 1, perTryTimeout: '1' } }, /such as 1s/],
] as const) {
  it(`a VirtualService of culvert.dev/v1 is refused for ${path}: ${JSON.stringify(route)}`, () => {
    assertRefused(document(tcp({ ...route, route: [to()] }), { apiVersion: 'culvert.dev/v1' }), path, why);
  });
}

it('a VirtualService of culvert.dev/v1 may say how often and for how long endpoints are tried', () => {
  const retries = { attempts: 3, perTryTimeout: '500ms', retryOn: 'connect-failure' };
  const spec = tcp({ retries, timeout: '2s', route: [to()] }, { retries: { attempts: 0 }, route: [to()] });
  const { virtualServices = [] } = compileDocuments(document(spec, { apiVersion: 'culvert.dev/v1' }));
  const choices = [{ subset: null, weight: 1 }];
  assert.deepEqual(virtualServices[0]?.routes, [
    { matches: [], choices, attempts: 3, perTryTimeoutMs: 500, timeoutMs: 2000 },
    { matches: [], choices, attempts: 0 },
  ]);
});

it('a VirtualService of culvert.dev/v1 may have faults, which agents read as they were meant', () => {
  const expiresAt = '2027-01-31T00:00:00.5+01:00';
  const delay = { percentage: { value: 0.25 }, fixedDelay: '1m30s', expiresAt };
  const throttle = { percentage: { value: 100 }, bytesPerSecond: 65_536, expiresAt };
  const spec = tcp(
    { fault: { delay, abort: some, throttle }, route: [to()] },
    { fault: { abort: some }, route: [to()] },
  );
  const snapshot = compileDocuments(document(spec, { apiVersion: 'culvert.dev/v1' }));
  const expiresAtMs = Date.UTC(2027, 0, 30, 23, 0, 0, 500);
  assert.deepEqual(
    snapshot.virtualServices?.[0]?.routes.map(({ faults }) => faults),
    [
      {
        delay: { percent: 0.25, delayMs: 90_000, expiresAtMs },
        abort: { percent: 10 },
        throttle: { percent: 100, bytesPerSecond: 65_536, expiresAtMs },
      },
      { abort: { percent: 10 } },
    ],
  );
  assert.deepEqual(snapshotSchema.parse(structuredClone(snapshot)), snapshot);
});

it('a VirtualService of culvert.dev/v1 may have a shadow, which agents read as it was meant', () => {
  const spec = tcp(
    { mirror: { host: 'web2' }, mirrorPercentage: { value: 0.25 }, route: [to()] },
    { mirror: { host: 'db.other.svc.cluster.local', subset: 'v2', port: { number: 81 } }, route: [to()] },
    { mirror: { host: 'web.shop.svc.cluster.local', subset: 'v2' }, route: [to()] },
    { mirror: { host: 'web', port: { number: 81 } }, route: [to()] },
  );
  const snapshot = compileDocuments(document(spec, { apiVersion: 'culvert.dev/v1' }));
  assert.deepEqual(
    snapshot.virtualServices?.[0]?.routes.map(({ mirror }) => mirror),
    [
      { percent: 0.25, subset: null, service: 'shop/web2' },
      { percent: 100, subset: 'v2', service: 'other/db', port: 81 },
      { percent: 100, subset: 'v2' },
      { percent: 100, subset: null, service: 'shop/web', port: 81 },
    ],
  );
  assert.deepEqual(snapshotSchema.parse(structuredClone(snapshot)), snapshot);
});

it('a destination may name the port that its route matches, as documents for Istio do', () => {
  const route = [{ destination: { host: 'web', subset: 'v1', port: { number: 80 } } }];
  const withoutPort = tcp({ match: [{ port: 80 }, { port: 80, sourceNamespace: 'billing' }], route: [to('v1')] });
  const named = tcp({ ...withoutPort.tcp[0]!, route });
  const [given, left] = [compileDocuments(document(named)), compileDocuments(document(withoutPort))];
  assert.deepEqual(given.virtualServices, left.virtualServices);
});

it('a VirtualService of Istio becomes routes among the subsets of its service', () => {
  const { resources, problems } = parseDocuments(
    document({
      hosts: ['web.shop.svc.cluster.local'],
      gateways: ['mesh'],
      http: null,
      tcp: [
        {
          match: [
            { port: 80, sourceLabels: { app: 'api' }, gateways: ['mesh'] },
            { sourceNamespace: 'billing', destinationSubnets: ['198.19.0.9/16'] },
          ],
          route: [{ ...to('v1', 'web.shop.svc.cluster.local'), weight: 90 }, { ...to('v2'), weight: 10 }, to('v3')],
        },
        { route: [to()] },
      ],
      exportTo: ['.'],
    }),
  );
  assert.deepEqual(problems, []);
  const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'x', trustDomain: 'mesh.test' };
  const [first, second] = [compileSnapshot(resources, meta), compileSnapshot(resources, meta)];
  assert.ok('snapshot' in first && 'snapshot' in second);
  assert.deepEqual(first.snapshot.virtualServices, [
    {
      ...metadata,
      host: 'web.shop.svc.cluster.local',
      exportTo: ['shop'],
      routes: [
        {
          matches: [
            { port: 80, sourceLabels: { app: 'api' } },
            { sourceNamespace: 'billing', destinationSubnets: ['198.19.0.0/16'] },
          ],
          choices: [
            { subset: 'v1', weight: 90 },
            { subset: 'v2', weight: 10 },
            { subset: 'v3', weight: 0 },
          ],
        },
        { matches: [], choices: [{ subset: null, weight: 1 }] },
      ],
    },
  ]);
  assert.equal(first.snapshot.virtualServices?.[0], second.snapshot.virtualServices?.[0]);
});

/** What is not served is refused with its place and what to do: a document that was taken would steer nothing. */
describe('a VirtualService is refused for', () => {
  const route = [to('v2')];
  const rows: readonly (readonly [path: string, spec: unknown, why: RegExp])[] = [
    ['spec.tcp', { hosts: ['web'] }, /is missing/],
    ['spec.tcp', tcp(), /at least one route/],
    ['spec.hosts', { tcp: [{ route }] }, /is missing/],
    ['spec.hosts', { hosts: ['web', 'db'], tcp: [{ route }] }, /a document for each/],
    ['spec.hosts[0]', { hosts: ['*'], tcp: [{ route: [to('v2', '*')] }] }, /is a wildcard/],
    ['spec.http', { ...tcp({ route }), http: [] }, /without reading it: write tcp/],
    ['spec.tls', { ...tcp({ route }), tls: [] }, /write tcp/],
    ['spec.gateways[0]', { ...tcp({ route }), gateways: ['public'] }, /must be "mesh"/],
    ['spec.tcp[0].route', tcp({}), /is missing/],
    ['spec.tcp[0].route', tcp({ route: [] }), /at least one destination/],
    ['spec.tcp[0].route', tcp({ route: [to('v1'), { ...to('v2'), weight: 0 }] }), /no weight above 0/],
    ['spec.tcp[0].route[0].weight', tcp({ route: [{ ...to('v1'), weight: -1 }] }), /must not be negative/],
    ['spec.tcp[0].route[0].weight', tcp({ route: [{ ...to('v1'), weight: 1.5 }] }), /whole number/],
    [
      'spec.tcp[0].route[0].destination.port',
      tcp({ route: [{ destination: { host: 'web', port: { number: 81 } } }] }),
      /port of the service that was dialled: write match: \[\{ port: 81 \}\], or leave it out/,
    ],
    [
      'spec.tcp[0].route[0].destination.port',
      tcp({
        match: [{ port: 81 }, { sourceNamespace: 'billing' }],
        route: [{ destination: { host: 'web', port: { number: 81 } } }],
      }),
      /is not the one port that the route matches/,
    ],
    ['spec.tcp[0].route[0].destination.host', tcp({ route: [to('v2', 'db')] }), /another service than spec\.hosts/],
    ['spec.tcp[0].match[0].sniHosts', tcp({ match: [{ sniHosts: [] }], route }), /is not a field here/],
    ['spec.tcp[0].mirror', tcp({ mirror: { host: 'web2' }, route }), /is no field of Istio for TCP: write apiVersion/],
    [
      'spec.tcp[0].mirrorPercentage',
      tcp({ mirrorPercentage: { value: 5 }, route }),
      /is no field of Istio for TCP: write apiVersion/,
    ],
    ['spec.tcp[0].mirrors', tcp({ mirrors: [], route }), /one shadow: write mirror/],
    ['spec.tcp[0].retries', tcp({ retries: { attempts: 2 }, route }), /is no field of Istio for TCP: write apiVersion/],
    ['spec.tcp[0].timeout', tcp({ timeout: '1s', route }), /is no field of Istio for TCP: write apiVersion/],
    ['spec.tcp[0].fault', tcp({ fault: { abort: some }, route }), /is no field of Istio for TCP: write apiVersion/],
    ['spec.tcp[0].retries.attempts', tcp({ retries: {}, route }), /is missing/],
    ['spec.tcp[0].retries.retryOn', tcp({ retries: { attempts: 1, retryOn: '5xx' }, route }), /connect-failure/],
    ['spec.tcp[0].retries.backoff', tcp({ retries: { attempts: 1, backoff: '1s' }, route }), /leave it out/],
    [
      'spec.tcp[0].retries.retryRemoteLocalities',
      tcp({ retries: { attempts: 1, retryRemoteLocalities: true }, route }),
      /leave it out/,
    ],
    [
      'spec.tcp[0].retries.retryIgnorePreviousHosts',
      tcp({ retries: { attempts: 1, retryIgnorePreviousHosts: true }, route }),
      /leave it out/,
    ],
  ];
  for (const [path, spec, why] of rows) {
    it(`${path}: ${JSON.stringify(spec)}`, () => {
      assertRefused(document(spec), path, why);
    });
  }
});

describe('VirtualServices together with DestinationRules', () => {
  const service = JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop' },
    spec: { vips: ['198.19.0.1'], ports: [{ port: 80 }], selector: { app: 'web' } },
  });
  const rule = (namespace: string, host: string, ...subsets: readonly string[]): string =>
    JSON.stringify({
      apiVersion: 'networking.istio.io/v1',
      kind: 'DestinationRule',
      metadata: { name: 'r', namespace },
      spec: { host, subsets: subsets.map((name) => ({ name, labels: { version: name } })) },
    });
  const found = (...documents: readonly string[]): string[] => {
    const { resources, problems } = parseDocuments([service, ...documents].join('\n---\n'));
    assert.deepEqual(problems, []);
    return validateSet(resources)
      .filter(({ resource }) => resource?.startsWith('VirtualService') === true)
      .map((problem) => `${problem.severity} ${formatProblem(problem)}`);
  };
  const canary = document(
    tcp({
      route: [
        { ...to('v1'), weight: 9 },
        { ...to('v2'), weight: 1 },
      ],
    }),
  );

  it('are taken where the subsets are there', () => {
    assert.deepEqual(found(canary, rule('shop', 'web', 'v1', 'v2')), []);
    assert.deepEqual(found(canary, rule('istio-system', '*.shop.svc.cluster.local', 'v1', 'v2')), []);
  });

  it('are refused for a subset that the rule does not have, and without a rule', () => {
    const [problem, ...others] = found(canary, rule('shop', 'web', 'v1'));
    assert.match(
      problem ?? '',
      /^error .*spec\.tcp\[0\]\.route\[1\]\.destination\.subset: names the subset v2, which DestinationRule\/shop\/r does not have \(it has v1\)/,
    );
    assert.deepEqual(others, []);
    assert.equal(found(canary, rule('other', 'web', 'v1', 'v2')).length, 2, 'a rule for another service');
    assert.match(found(canary).join('\n'), /there is no DestinationRule for shop\/web/);
  });

  it('are refused where two of a namespace are for one service', () => {
    const second = document(tcp({ route: [to()] }), { metadata: { name: 's', namespace: 'shop' } });
    assert.match(found(canary, second, rule('shop', 'web', 'v1', 'v2')).join('\n'), /^error .*VirtualService\/shop\/s/);
  });

  it('are warned of where there is no such service', () => {
    const other = document({ hosts: ['wep'], tcp: [{ route: [to(undefined, 'wep')] }] });
    assert.match(found(other).join('\n'), /^warning .*there is no Service shop\/wep \(did you mean "shop\/web"/);
  });
});
