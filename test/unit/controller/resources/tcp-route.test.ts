import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { lookupOf } from '../../../../controller/analysis/registry/registry-lookup.js';
import { backendEndpoints } from '../../../../controller/analysis/traffic/route-backends.js';
import { TrafficView } from '../../../../controller/analysis/traffic/service-routes.js';
import { lintTraffic } from '../../../../controller/analysis/lint/lint-traffic.js';
import { runAssertions } from '../../../../controller/analysis/tests/assertions.js';
import { diffTraffic } from '../../../../controller/analysis/diff/diff-traffic.js';
import { findDestinations } from '../../../../controller/api/party-candidates.js';
import { trafficNotes } from '../../../../controller/api/traffic-notes.js';
import { flow } from '../../../support/rules/analysis-flow-world.js';
import { renderRoutes } from '../../../../controller/cli/view/render-traffic.js';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { formatProblem } from '../../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { workloadName, type ServiceName, type WorkloadName } from '../../../../shared/routing/names.js';
import type { RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { assertRefused, compileDocuments } from '../../../support/controller/compiled-documents.js';
import { registryService, workloadEntry } from '../../../support/rules/analysis-fixture.js';
import { ip } from '../../../support/rules/policy-fixture.js';

const group = 'gateway.networking.k8s.io';
const service = (name: string, rest: object = {}) => ({ group: '', kind: 'Service', name, ...rest });
const to = (name: string, rest: object = {}) => ({ name, port: 80, ...rest });

function route(
  {
    backends,
    parents = [service('web')],
    ...metadata
  }: {
    readonly backends: readonly object[];
    readonly parents?: readonly object[];
    readonly name?: string;
    readonly namespace?: string;
    readonly creationTimestamp?: string;
  },
  version = 'v1',
): string {
  const spec = { parentRefs: parents, rules: [{ backendRefs: backends }] };
  const named = { name: 'r', namespace: 'shop', ...metadata };
  return JSON.stringify({ apiVersion: `${group}/${version}`, kind: 'TCPRoute', metadata: named, spec, status: {} });
}

function grant(from: object = {}, target: object = {}, namespace = 'labs'): string {
  return JSON.stringify({
    apiVersion: `${group}/v1beta1`,
    kind: 'ReferenceGrant',
    metadata: { name: 'g', namespace },
    spec: {
      from: [{ group, kind: 'TCPRoute', namespace: 'shop', ...from }],
      to: [{ group: '', kind: 'Service', ...target }],
    },
  });
}

const served = (name: string, vip: string, ports = [80]) =>
  registryService(name, {
    vips: [vip],
    ports: ports.map((port) => ({ port, targetPort: 8080 })),
    selector: { app: name.split('/')[1] ?? '' },
  });
const entries: readonly RegistryEntry[] = [
  workloadEntry('shop/client', ['198.18.0.1']),
  workloadEntry('other/client', ['198.18.0.2']),
  workloadEntry('shop/web', ['198.18.1.1']),
  workloadEntry('shop/web2', ['198.18.1.2']),
  workloadEntry('labs/next', ['198.18.1.3']),
  workloadEntry('other/mine', ['198.18.1.4']),
  served('shop/web', '198.19.0.1', [80, 81]),
  served('shop/web2', '198.19.0.2'),
  served('labs/next', '198.19.0.3'),
  served('other/mine', '198.19.0.4'),
  served('shop/empty', '198.19.0.5'),
];
const registry = lookupOf(entries);
const web = registry.service('shop/web' as ServiceName)!;
const clock = { nowMs: () => 0 };
const dialled = { ip: ip('198.19.0.1'), port: 80 };

/** `shop/web2 0.5`, or `refused 0.5: why`, for each choice of a route. */
function shares(documents: readonly string[], client = 'shop/client', port = 80): string[] {
  const snapshot = compileDocuments(...documents);
  assert.deepEqual(snapshotSchema.parse(structuredClone(snapshot)), snapshot, 'agents read it');
  const view = new TrafficView({ snapshot, registry, clock });
  const found = view.routesTo(web, registry.workload(client as WorkloadName)!, { ...dialled, port });
  return found.targets.map(({ share, problem, endpoints }) =>
    problem === null
      ? `${endpoints.map(({ workload }) => workload).join('+')} ${share}`
      : `refused ${share}: ${problem}`,
  );
}

const own = ['shop/web 1'];
const canary = route({ backends: [to('web', { weight: 9 }), to('web2', { weight: 1 })] });
const toOwn = route({ backends: [to('web2')] });
const consumer = (rest: object = {}) =>
  route({ namespace: 'other', parents: [service('web', { namespace: 'shop', ...rest })], backends: [to('mine')] });
const crossing = route({ backends: [to('next', { namespace: 'labs' })] });
const because = (why: string, share = 1) => [`refused ${share}: TCPRoute/shop/r spec.rules[0] leads to ${why}`];
const noGrant = because('labs/next: no ReferenceGrant in labs lets a TCPRoute of shop name it');

/** What the specification says, by section. */
describe('a TCPRoute as the Gateway API says', () => {
  const rows: readonly (readonly [
    what: string,
    documents: readonly string[],
    expected: readonly string[],
    client?: string,
    port?: number,
  ])[] = [
    ['weights are relative', [canary], ['shop/web 0.9', 'shop/web2 0.1']],
    [
      'a weight that is missing is 1',
      [route({ backends: [to('web'), to('web2')] })],
      ['shop/web 0.5', 'shop/web2 0.5'],
    ],
    [
      'a weight of 0 gets nothing',
      [route({ backends: [to('web', { weight: 0 }), to('web2')] })],
      ['shop/web 0', 'shop/web2 1'],
    ],
    [
      'without any weight all are refused',
      [route({ backends: [to('web2', { weight: 0 })] })],
      because('shop/web2: none of its backends has a weight above 0'),
    ],
    ['v1alpha2 means the same', [route({ backends: [to('web2')] }, 'v1alpha2')], ['shop/web2 1']],
    ['a producer route is for clients of all namespaces', [toOwn], ['shop/web2 1'], 'other/client'],
    ['a consumer route is for clients of its namespace', [consumer()], ['other/mine 1'], 'other/client'],
    ['a consumer route is for no client of another', [consumer()], own],
    ['a consumer route precedes a producer route', [toOwn, consumer()], ['other/mine 1'], 'other/client'],
    ['and is nothing to other clients then', [toOwn, consumer()], ['shop/web2 1']],
    ['a consumer route of one port leaves others', [toOwn, consumer({ port: 81 })], ['shop/web2 1'], 'other/client'],
    ['and has its port', [toOwn, consumer({ port: 81 })], ['other/mine 1'], 'other/client', 81],
    [
      'a port of a parent is that alone',
      [route({ parents: [service('web', { port: 81 })], backends: [to('web2')] })],
      own,
    ],
    [
      'of a share a service that is not there is refused',
      [route({ backends: [to('nix'), to('web')] })],
      [...because('shop/nix: there is no such service', 0.5), 'shop/web 0.5'],
    ],
    [
      'and a port that it does not have',
      [route({ backends: [to('web2', { port: 9 })] })],
      because('shop/web2: it has no port 9'),
    ],
    ['and one that serves nothing', [route({ backends: [to('empty')] })], ['refused 1: has no endpoint for port 80']],
    [
      'and another kind',
      [route({ backends: [{ group: 'multicluster.x-k8s.io', kind: 'ServiceImport', name: 'web2' }] })],
      because('shop/web2: it is a ServiceImport of multicluster.x-k8s.io, and backends are Services'),
    ],
    ['a backend of another namespace needs a grant', [crossing], noGrant],
    ['with a grant it is taken', [crossing, grant()], ['labs/next 1']],
    ['a grant may name the service', [crossing, grant({}, { name: 'next' })], ['labs/next 1']],
    ['and is for no other then', [crossing, grant({}, { name: 'web' })], noGrant],
    ['a grant is for a namespace', [crossing, grant({ namespace: 'other' })], noGrant],
    ['a grant is for a kind', [crossing, grant({ kind: 'TLSRoute' })], noGrant],
    ['a grant is for a group', [crossing, grant({ group: 'example.test' })], noGrant],
    ['a grant is to a kind', [crossing, grant({}, { kind: 'Secret' })], noGrant],
    ['a grant counts in the namespace of the service alone', [crossing, grant({}, {}, 'shop')], noGrant],
    [
      'of two the older counts',
      [
        route({ name: 'a', creationTimestamp: '2026-02-01T00:00:00Z', backends: [to('web')] }),
        route({ name: 'b', creationTimestamp: '2026-01-01T00:00:00Z', backends: [to('web2')] }),
      ],
      ['shop/web2 1'],
    ],
    [
      'of two of one age the first by name',
      [route({ name: 'b', backends: [to('web')] }), route({ name: 'a', backends: [to('web2')] })],
      ['shop/web2 1'],
    ],
    [
      'one that names the port is before an older one for all',
      [
        route({ name: 'a', creationTimestamp: '2026-01-01T00:00:00Z', backends: [to('web')] }),
        route({ name: 'b', parents: [service('web', { port: 80 })], backends: [to('web2')] }),
      ],
      ['shop/web2 1'],
    ],
  ];
  for (const [what, documents, expected, client, port] of rows) {
    it(what, () => {
      assert.deepEqual(shares(documents, client, port), expected);
    });
  }
});

it('a consumer route leaves other ports to the VirtualService of the service', () => {
  const subsets = [{ name: 'all', labels: { app: 'web' } }];
  const rule = { apiVersion: 'culvert.dev/v1', kind: 'DestinationRule', metadata: { name: 'w', namespace: 'shop' } };
  const led = { apiVersion: 'culvert.dev/v1', kind: 'VirtualService', metadata: { name: 'w', namespace: 'shop' } };
  const tcp = [{ route: [{ destination: { host: 'web', subset: 'all' } }] }];
  const snapshot = compileDocuments(
    JSON.stringify({ ...rule, spec: { host: 'web', subsets } }),
    JSON.stringify({ ...led, spec: { hosts: ['web'], tcp } }),
    consumer({ port: 81 }),
  );
  const view = new TrafficView({ snapshot, registry, clock });
  const client = registry.workload('other/client' as WorkloadName)!;
  assert.equal(view.routesTo(web, client, dialled).route, 'VirtualService/shop/w spec.tcp[0]');
  assert.equal(view.routesTo(web, client, { ...dialled, port: 81 }).route, 'TCPRoute/other/r spec.rules[0]');
});

const limit = (name: string, host: string, rest: object = {}) =>
  JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'RateLimit',
    metadata: { name, namespace: 'shop' },
    spec: { host, maxConnections: 5, ...rest },
  });

it('connections that a route leads to a backend are in its RateLimits too, as routes and why say', () => {
  const client = registry.workload('shop/client' as WorkloadName)!;
  const limited = (...documents: readonly string[]) => {
    const snapshot = compileDocuments(limit('web2', 'web2'), limit('all', '*', { per: 'source' }), ...documents);
    const view = new TrafficView({ snapshot, registry, clock });
    const led = { snapshot, client };
    const notes = findDestinations('service:shop/web', 80, entries, null, led).map((destination) =>
      trafficNotes({
        snapshot,
        clock,
        source: { ip: ip('198.18.0.1'), workload: client },
        destination,
        dialledPort: 80,
      }),
    );
    return [view.routesTo(web, client, dialled).limits.map(({ of }) => of), notes.map((each) => each.length)];
  };
  assert.deepEqual(limited(), [['from shop/client'], [1]]);
  const both = ['from shop/client', 'from shop/client to shop/web2:80'];
  assert.deepEqual(limited(canary), [both, [1, 1, 2]]);
  const none = route({ backends: [to('web'), to('web2', { weight: 0 })] });
  assert.deepEqual(limited(none)[0], ['from shop/client']);
});

it('diff sees clients that a route led to a backend, when the route goes', () => {
  const party = (name: string) => ({ workload: name as WorkloadName, identity: null, cidr: null });
  const flows = ['shop/client', 'other/client'].map((name) =>
    flow({ source: party(name), destination: party('other/mine'), port: 8080, connections: 3 }),
  );
  const set = (...documents: readonly string[]) => ({ snapshot: compileDocuments(...documents), entries });
  const changes = (before: string) => diffTraffic({ before: set(grant(), before), after: set(grant()), flows, clock });
  // Clients of shop are not led there: theirs went to the service itself.
  assert.deepEqual(
    changes(consumer({ port: 80 })).map(({ sources, service: of, worked }) => [sources, of, worked]),
    [[['other/client'], 'shop/web:80', 3]],
  );
  assert.deepEqual(changes(toOwn), []);
});

describe('a TCPRoute or a ReferenceGrant is refused for', () => {
  const spec = (fields: object, rule: object = {}) => ({
    apiVersion: `${group}/v1`,
    kind: 'TCPRoute',
    metadata: { name: 'r', namespace: 'shop' },
    spec: { parentRefs: [service('web')], rules: [{ backendRefs: [to('web2')], ...rule }], ...fields },
  });
  const granted = (fields: object) => ({
    apiVersion: `${group}/v1`,
    kind: 'ReferenceGrant',
    metadata: { name: 'g' },
    spec: { from: [{ group, kind: 'TCPRoute', namespace: 'a' }], to: [{ group: '', kind: 'Service' }], ...fields },
  });
  const backends = (rest: object) => spec({}, { backendRefs: [{ ...to('web2'), ...rest }] });
  const rows: readonly (readonly [path: string, document: object, why: RegExp])[] = [
    ['spec.parentRefs', spec({ parentRefs: undefined }), /is missing/],
    ['spec.parentRefs', spec({ parentRefs: [] }), /at least one Service/],
    [
      'spec.parentRefs[0].group',
      spec({ parentRefs: [{ name: 'public' }] }),
      /names a Gateway of .* write|name a Service with/,
    ],
    [
      'spec.parentRefs[0].group',
      spec({ parentRefs: [{ kind: 'Service', name: 'web' }] }),
      /group: "" and kind: Service/,
    ],
    [
      'spec.parentRefs[0].kind',
      spec({ parentRefs: [{ group: '', kind: 'Pod', name: 'web' }] }),
      /names a Pod of Kubernetes/,
    ],
    [
      'spec.parentRefs[0].sectionName',
      spec({ parentRefs: [service('web', { sectionName: 'http' })] }),
      /write port with its number/,
    ],
    ['spec.parentRefs[1]', spec({ parentRefs: [service('web'), service('web')] }), /is listed twice/],
    ['spec.parentRefs[0].port', spec({ parentRefs: [service('web', { port: 0 })] }), /65535/],
    ['spec.rules', spec({ rules: [] }), /must be one rule/],
    ['spec.rules', spec({ rules: [1, 2].map(() => ({ backendRefs: [to('web2')] })) }), /must be one rule/],
    ['spec.rules[0].backendRefs', spec({}, { backendRefs: [] }), /at least one backend/],
    ['spec.rules[0].backendRefs', spec({}, { backendRefs: Array(17).fill(to('web2')) }), /at most 16/],
    ['spec.rules[0].backendRefs[0].port', backends({ port: undefined }), /a Service is named with its port/],
    ['spec.rules[0].backendRefs[0].weight', backends({ weight: -1 }), /must not be negative/],
    ['spec.rules[0].backendRefs[0].weight', backends({ weight: 1_000_001 }), /at most 1000000/],
    ['spec.rules[0].backendRefs[0].filters', backends({ filters: [] }), /leave it out/],
    ['spec.rules[0].matches', spec({}, { matches: [] }), /write a VirtualService/],
    ['spec.rules[0].filters', spec({}, { filters: [] }), /leave it out/],
    ['spec.rules[0].timeouts', spec({}, { timeouts: {} }), /write timeout of a route/],
    ['spec.rules[0].retry', spec({}, { retry: {} }), /write retries/],
    ['spec.rules[0].sessionPersistence', spec({}, { sessionPersistence: {} }), /consistentHash/],
    ['spec.useDefaultGateways', spec({ useDefaultGateways: 'All' }), /name the Services in parentRefs/],
    ['spec.hostnames', spec({ hostnames: [] }), /name the Services in parentRefs/],
    ['spec.from', granted({ from: [] }), /at least one/],
    ['spec.to', granted({ to: undefined }), /is missing/],
    ['spec.from[0].namespace', granted({ from: [{ group, kind: 'TCPRoute' }] }), /is missing/],
    ['spec.to[0].kind', granted({ to: [{ group: '', kind: '' }] }), /name of a kind/],
  ];
  for (const [path, document, why] of rows) {
    it(`${path}: ${JSON.stringify(document)}`, () => {
      assertRefused(JSON.stringify(document), path, why);
    });
  }
});

describe('a set with TCPRoutes', () => {
  const found = (...documents: readonly string[]): string => {
    const names = [...new Set(entries.map(({ kind, namespace, name }) => `${kind} ${namespace} ${name}`))];
    const services = names.flatMap((text, index) => {
      const [kind, namespace, name = ''] = text.split(' ');
      const metadata = { name, namespace };
      const spec = { vips: [`198.19.1.${index}`], ports: [{ port: 80 }], selector: { app: name } };
      return kind === 'service'
        ? [JSON.stringify({ apiVersion: 'culvert.dev/v1', kind: 'Service', metadata, spec })]
        : [];
    });
    const { resources, problems } = parseDocuments([...services, ...documents].join('\n---\n'));
    assert.deepEqual(problems, []);
    return validateSet(resources)
      .filter(({ resource }) => resource?.startsWith('TCPRoute') === true)
      .map((problem) => `${problem.severity} ${formatProblem(problem)}`)
      .join('\n');
  };

  it('is refused where a VirtualService of the namespace is for the service', () => {
    const other = { apiVersion: 'culvert.dev/v1', kind: 'VirtualService', metadata: { name: 'v', namespace: 'shop' } };
    const spec = { hosts: ['web'], tcp: [{ route: [{ destination: { host: 'web' } }] }] };
    assert.match(
      found(toOwn, JSON.stringify({ ...other, spec })),
      /^error .*spec\.parentRefs\[0\]: VirtualService\/shop\/v is for web\.shop\.svc\.cluster\.local already/,
    );
  });

  it('is refused where it names a parent twice, with and without its own namespace', () => {
    const of = (...parents: object[]): string => found(route({ backends: [to('web')], parents }));
    const own = { namespace: 'shop' };
    assert.match(
      of(service('web'), service('web', { port: 80 }), service('web', own)),
      /^error .*spec\.parentRefs\[2\]: is the Service shop\/web again, as spec\.parentRefs\[0\]: shop is the namespace of the route/,
    );
    assert.match(of(service('web', { ...own, port: 80 }), service('web', { port: 80 })), /^error .*parentRefs\[1\]/);
    assert.equal(of(service('web'), service('web', { ...own, port: 80 })), '');
  });

  it('is warned of where a share is refused', () => {
    assert.equal(found(canary), '');
    assert.match(found(crossing), /^warning .*spec\.rules\[0\]\.backendRefs\[0\]: no ReferenceGrant in labs/);
    assert.match(found(route({ backends: [to('web', { weight: 0 })] })), /^warning .*no weight above 0/);
    assert.match(
      found(route({ backends: [to('nix')] })),
      /^warning .*backendRefs\[0\]\.name: there is no Service shop\/nix/,
    );
  });
});

describe('what explains TCPRoutes', () => {
  it('culvert routes shows backends, with their rules', () => {
    const rule = {
      apiVersion: 'culvert.dev/v1',
      kind: 'DestinationRule',
      metadata: { name: 'two', namespace: 'shop' },
    };
    const spec = { host: 'web2', trafficPolicy: { connectionPool: { tcp: { maxConnections: 5 } } } };
    const view = new TrafficView({
      snapshot: compileDocuments(canary, JSON.stringify({ ...rule, spec })),
      registry,
      clock,
    });
    const found = view.routesTo(web, registry.workload('shop/client' as WorkloadName)!, dialled);
    const text = renderRoutes([{ ...found, sources: ['shop/client'], service: 'shop/web', dialled: '198.19.0.1:80' }]);
    assert.match(
      text,
      /route +TCPRoute\/shop\/r spec\.rules\[0\]\n +rule +of shop\/web2:80: DestinationRule\/shop\/two\n/,
    );
    assert.match(text, /says +of shop\/web2:80: maxConnections 5/);
    assert.match(
      text,
      /BACKEND +SHARE[^]*shop\/web:80 +90 % [^]*shop\/web2:80 +10 % .*shop\/web2 +198\.18\.1\.2:8080 +10 %/,
    );
  });

  it('why judges the endpoints of backends for the clients that are led there', () => {
    const snapshot = compileDocuments(toOwn, consumer());
    const judged = (client: string): string[] => {
      const source = registry.workload(client as WorkloadName)!;
      const all = findDestinations('service:shop/web', 80, entries, null, { snapshot, client: source });
      return all.map(({ workload }) => (workload === null ? '' : workloadName(workload)));
    };
    assert.deepEqual(judged('shop/client'), ['shop/web', 'shop/web2']);
    assert.deepEqual(judged('other/client'), ['shop/web', 'other/mine']);
    const client = registry.workload('shop/client' as WorkloadName)!;
    const set = { snapshot: compileDocuments(crossing), registry };
    assert.deepEqual(backendEndpoints(set, web, { client, dialled, from: null }), [], 'no grant');
  });

  it('tests hold for backends too, of the clients that are led there', () => {
    const rule = (name: string, action: string, workload: string) =>
      JSON.stringify({
        apiVersion: 'culvert.dev/v1',
        kind: 'SegmentationRule',
        metadata: { name },
        spec: { tier: 'team', priority: 1000, action, to: [{ workload }] },
      });
    const mesh = { apiVersion: 'culvert.dev/v1', kind: 'Mesh', metadata: { name: 'default' } };
    const allowing = JSON.stringify({ ...mesh, spec: { defaultAction: 'allow' } });
    const snapshot = compileDocuments(allowing, rule('deny', 'deny', 'other/mine'), consumer());
    const results = runAssertions({
      snapshot,
      entries,
      clock,
      assertions: [
        { from: 'shop/client', to: 'service:shop/web:80', expect: 'allow' },
        { from: 'other/client', to: 'service:shop/web:80', expect: 'allow' },
      ],
    });
    assert.deepEqual(
      results.map(({ isPassed }) => isPassed),
      [true, false],
    );
    assert.match(results[1]?.failure ?? '', /other\/client to other\/mine:8080 should be allowed/);
  });

  it('lint finds invalid backends, routes that never count and services that are not there', () => {
    const lint = (...documents: readonly string[]): string[] =>
      lintTraffic({ snapshot: compileDocuments(...documents), entries, clock }).map(
        ({ kind, resource, message }) => `${resource} ${kind}: ${message}`,
      );
    assert.deepEqual(lint(canary), []);
    assert.deepEqual(lint(crossing), [
      'TCPRoute/shop/r invalid backend: spec.rules[0] leads to labs/next: no ReferenceGrant in labs lets a TCPRoute of shop name it; that share of the connections is refused',
    ]);
    assert.match(lint(route({ backends: [to('empty')] })).join(), /it has no endpoint for port 80/);
    assert.match(lint(route({ backends: [to('nix')] })).join(), /there is no such service/);
    assert.match(lint(route({ backends: [to('web2', { port: 7 })] })).join(), /it has no port 7/);
    assert.deepEqual(lint(route({ name: 'a', backends: [to('web')] }), route({ name: 'b', backends: [to('web2')] })), [
      'TCPRoute/shop/b unreachable route: spec.rules[0] leads no connection: TCPRoute/shop/a comes first and matches all that it matches',
    ]);
    assert.deepEqual(lint(toOwn, consumer()), [], 'what a consumer gets from the producer is found there');
    assert.match(
      lint(route({ parents: [service('wep')], backends: [to('web')] })).join(),
      /TCPRoute\/shop\/r unknown host/,
    );
  });
});
