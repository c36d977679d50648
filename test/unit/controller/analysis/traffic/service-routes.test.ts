import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { lookupOf } from '../../../../../controller/analysis/registry/registry-lookup.js';
import { serviceEndpoints } from '../../../../../controller/analysis/traffic/service-endpoints.js';
import { TrafficView, type ServiceRoutes } from '../../../../../controller/analysis/traffic/service-routes.js';
import { renderEndpoints, renderRoutes } from '../../../../../controller/cli/view/render-traffic.js';
import { EndpointBalancer } from '../../../../../agent/dataplane/balance/endpoint-balancer.js';
import { resolveService } from '../../../../../shared/routing/destination.js';
import type { RegistryEntry } from '../../../../../shared/routing/registry-entry.js';
import type { Balancing } from '../../../../../shared/policy/traffic-documents.js';
import { steeredEntries, steeredRule, steeredSet, virtualService } from '../../../../support/rules/steered-set.js';
import { serviceNamed, workloadNamed } from '../../../../support/routing/names.js';
import { ip } from '../../../../support/routing/registry-entries.js';

const dialled = { ip: ip('198.19.0.1'), port: 80 };
const registry = lookupOf(steeredEntries);
const clock = { nowMs: () => Date.parse('2027-01-01T00:00:00Z') };
const web = registry.service(serviceNamed('shop/web'))!;

function routes(set: Parameters<typeof steeredSet>[0], client = 'shop/api'): ServiceRoutes {
  const { snapshot } = steeredSet(set);
  return new TrafficView({ snapshot, registry, clock }).routesTo(
    web,
    registry.workload(workloadNamed(client))!,
    dialled,
  );
}

function summary({ targets }: ServiceRoutes): unknown {
  return targets.map(({ subset, share, endpoints }) => [
    subset,
    share,
    endpoints.map(({ workload, probability }) => [workload, probability]),
  ]);
}

describe('the routes of a client', () => {
  it('are all endpoints by open connections where no document says otherwise', () => {
    const found = routes({});
    assert.deepEqual([found.route, found.rule], [null, null]);
    const third = 1 / 3;
    assert.deepEqual(summary(found), [
      [
        null,
        1,
        [
          ['shop/a', third],
          ['shop/b', third],
          ['shop/c', third],
        ],
      ],
    ]);
    assert.equal(found.targets[0]?.balancing, 'least-connections');
    assert.equal(found.targets[0]?.endpoints[0]?.address, '198.18.1.1:8080');
  });

  const canary = virtualService(
    { matches: [{ sourceNamespace: 'reports' }], choices: [{ subset: 'v2', weight: 1 }] },
    {
      matches: [],
      choices: [
        { subset: 'v1', weight: 90 },
        { subset: 'v2', weight: 10 },
        { subset: 'v9', weight: 0 },
      ],
    },
  );

  it('name the route that matches, the rule, and the share of each endpoint', () => {
    const found = routes({ destinationRules: [steeredRule], virtualServices: [canary] });
    assert.deepEqual([found.route, found.rule], ['VirtualService/shop/web spec.tcp[1]', 'DestinationRule/shop/web']);
    assert.deepEqual(summary(found), [
      [
        'v1',
        0.9,
        [
          ['shop/a', 0.45],
          ['shop/b', 0.45],
        ],
      ],
      ['v2', 0.1, [['shop/c', 0.1]]],
      ['v9', 0, []],
    ]);
    assert.match(found.targets[2]?.problem ?? '', /names the subset v9, which no DestinationRule has/);
    const ofReports = routes({ destinationRules: [steeredRule], virtualServices: [canary] }, 'reports/job');
    assert.equal(ofReports.route, 'VirtualService/shop/web spec.tcp[0]');
    assert.deepEqual(summary(ofReports), [['v2', 1, [['shop/c', 1]]]]);
  });

  it('say what the rule says of connections, of each subset where they differ', () => {
    const text = (rule: object, set: object = {}) => {
      const found = routes({ destinationRules: [{ ...steeredRule, ...rule }], ...set });
      return renderRoutes([{ ...found, sources: ['shop/api'], service: 'shop/web', dialled: '198.19.0.1:80' }])
        .split('\n')
        .filter((line) => line.startsWith('  says'));
    };
    const keepalive = { idleSeconds: 60, everySeconds: 10, probes: 3 };
    const policy = {
      connections: { max: 5, connectTimeoutMs: 1500, keepalive },
      outliers: { failures: 3, baseEjectionMs: 30_000, decayMs: 1, maxEjectionPercent: 10, minHealthPercent: 0 },
      retries: { percent: 20, minConcurrency: 3 },
    };
    const limits = 'maxConnections 5, connectTimeout 1500ms, tcpKeepalive after 60s, 3 times every 10s';
    const rest = 'outlierDetection after 3 in a row for 30s, retryBudget 20 % or 3';
    assert.deepEqual(text({ policy: {} }), []);
    assert.deepEqual(text({ policy }), [`  says   ${limits}, ${rest}`]);
    const subsets = [
      { name: 'v1', labels: { version: 'v1' }, policy: { connections: { idleTimeoutMs: 0 } }, ports: {} },
      { name: 'v2', labels: { version: 'v2' }, policy: {}, ports: {} },
    ];
    assert.deepEqual(text({ policy: { retries: policy.retries }, subsets }, { virtualServices: [canary] }), [
      '  says   of subset v1: idleTimeout 0s, retryBudget 20 % or 3',
      '  says   of subset v2: retryBudget 20 % or 3',
    ]);
  });

  it('have the faults of the route that matches, and say which of them have expired', () => {
    const expiresAtMs = clock.nowMs();
    const faults = {
      delay: { percent: 10, delayMs: 2000, expiresAtMs: expiresAtMs + 1 },
      abort: { percent: 0.5, expiresAtMs },
      throttle: { percent: 20, bytesPerSecond: 65_536 },
    };
    const all = virtualService(
      { matches: [{ sourceNamespace: 'reports' }], choices: [{ subset: null, weight: 1 }], faults },
      { matches: [], choices: [{ subset: null, weight: 1 }] },
    );
    assert.deepEqual(routes({ virtualServices: [all] }).faults, []);
    const found = routes({ virtualServices: [all] }, 'reports/job');
    const text = renderRoutes([{ ...found, sources: ['reports/job'], service: 'shop/web', dialled: '198.19.0.1:80' }]);
    assert.deepEqual(
      text.split('\n').filter((line) => line.startsWith('  fault')),
      [
        '  fault  delay of 2s for 10 % of the connections, until 2027-01-01T00:00:00.001Z',
        '  fault  abort for 0.5 % of the connections: expired at 2027-01-01T00:00:00.000Z',
        '  fault  throttle to 65536 bytes a second each way for 20 % of the connections',
      ],
    );
  });

  it('have the shadow of the route that matches, and why no copy gets there', () => {
    const found = (mirror: { percent: number; subset: string | null; service?: string }) => {
      const all = virtualService({ matches: [], choices: [{ subset: null, weight: 1 }], mirror });
      const routed = routes({ virtualServices: [all] });
      const text = renderRoutes([{ ...routed, sources: ['shop/api'], service: 'shop/web', dialled: '198.19.0.1:80' }]);
      return text.split('\n').filter((line) => line.startsWith('  mirror'));
    };
    assert.deepEqual(found({ percent: 0.5, subset: null, service: 'shop/web' }), [
      '  mirror to shop/web:80 for 0.5 % of the connections',
    ]);
    assert.deepEqual(found({ percent: 10, subset: null, service: 'shop/gone' }), [
      '  mirror to shop/gone:80 for 10 % of the connections; none gets there: VirtualService/shop/web spec.tcp[0] leads to shop/gone: there is no such service',
    ]);
  });

  it('say what the agent of the client has ejected by the rule that counts, and that of no other', () => {
    const of = (node: string, destination: string, more: object = {}) => ({
      node,
      heartbeat: {
        ejected: [
          {
            destination,
            rule: 'shop/web',
            workload: 'shop/c',
            address: '198.18.1.3:8080',
            state: 'ejected' as const,
            reason: 'CONNECT_REFUSED',
            count: 1,
            forMs: 11_500,
            threads: 2,
            ...more,
          },
        ],
      },
    });
    const only = virtualService({ matches: [], choices: [{ subset: 'v2', weight: 1 }] });
    const { snapshot } = steeredSet({ destinationRules: [steeredRule], virtualServices: [only] });
    const api = registry.workload(workloadNamed('shop/api'))!;
    const text = (...agents: ReturnType<typeof of>[]) => {
      const found = new TrafficView({ snapshot, registry, clock, agents }).routesTo(web, api, dialled);
      return renderRoutes([{ ...found, sources: ['shop/api'], service: 'shop/web', dialled: '198.19.0.1:80' }]);
    };
    const v2 = 'subset v2 of shop/web:80';
    assert.match(
      text(of('host-a', v2)),
      /shop\/c +198\.18\.1\.3:8080 +100 %; ejected by 2 threads for 12s \(CONNECT_REFUSED\)\n\n +ejected, to be tried/,
    );
    assert.match(text(of('host-a', v2, { state: 'on trial', threads: 1 })), /100 %; on trial by 1 thread \(CONNECT/);
    const others = [of('host-b', v2), of('host-a', 'shop/web:80'), of('host-a', v2, { rule: 'shop/other' })];
    assert.doesNotMatch(text(...others, of('host-a', v2, { workload: 'shop/gone' })), /ejected/);
  });

  it('have the endpoints farther away behind those that are near, each once, and no share for them', () => {
    const placed = (entry: RegistryEntry, host: string, zone: string): RegistryEntry =>
      entry.kind === 'workload' ? { ...entry, locality: { host, zone } } : entry;
    const places: Record<string, [string, string]> = {
      api: ['h1', 'z1'],
      a: ['h1', 'z1'],
      b: ['h2', 'z1'],
      c: ['h3', 'z2'],
    };
    const found = (distribution: 'same-host' | 'prefer-same-host' | 'prefer-same-zone' | undefined) => {
      const entries = steeredEntries.map((entry) => {
        const at = places[entry.name];
        if (at !== undefined) return placed(entry, ...at);
        return entry.kind === 'service' && distribution !== undefined ? { ...entry, distribution } : entry;
      });
      const known = lookupOf(entries);
      const view = new TrafficView({ snapshot: steeredSet({}).snapshot, registry: known, clock });
      const service = known.service(serviceNamed('shop/web'))!;
      const routed = view.routesTo(service, known.workload(workloadNamed('shop/api'))!, dialled);
      const text = renderRoutes([{ ...routed, sources: [], service: '', dialled: '' }]);
      const [target] = routed.targets;
      const names = (list: readonly { readonly workload: string | null }[] = []) =>
        list.map(({ workload }) => workload);
      return { near: names(target?.endpoints), farther: names(target?.farther), text };
    };
    const host = found('prefer-same-host');
    assert.deepEqual([host.near, host.farther], [['shop/a'], ['shop/b', 'shop/c']]);
    assert.match(host.text, /shop\/a .* 100 %\n.*shop\/b .* when nearer ones fail\n.*shop\/c .* when nearer ones fail/);
    const zone = found('prefer-same-zone');
    assert.deepEqual([zone.near, zone.farther], [['shop/a', 'shop/b'], ['shop/c']]);
    const own = found('same-host');
    assert.deepEqual([own.near, own.farther], [['shop/a'], []]);
    const all = found(undefined);
    assert.deepEqual([all.near.length, all.farther], [3, []]);
  });

  it('say that a subset has no endpoint', () => {
    const empty = { ...steeredRule, subsets: [{ name: 'v1', labels: { version: 'v7' }, policy: {}, ports: {} }] };
    const only = virtualService({ matches: [], choices: [{ subset: 'v1', weight: 1 }] });
    const [target] = routes({ destinationRules: [empty], virtualServices: [only] }).targets;
    assert.equal(target?.problem, 'has no endpoint for port 80');
  });

  it('have a probability by how endpoints are shared, as the balancer does it', () => {
    const shared = (balancing: Balancing) =>
      routes({ destinationRules: [{ ...steeredRule, policy: { balancing } }] }).targets[0]!;
    const probabilities = (balancing: Balancing) => shared(balancing).endpoints.map(({ probability }) => probability);
    for (const even of ['least-connections', 'random', 'round-robin'] as const) {
      assert.deepEqual(probabilities(even), [1 / 3, 1 / 3, 1 / 3]);
    }
    const sticky = shared('source-ip').endpoints.find(({ probability }) => probability === 1);
    const balancer = new EndpointBalancer({ random: Math.random, nowMs: () => 0 });
    const endpoints = resolveService(registry, web, dialled, null);
    const client = ip('198.18.0.1');
    const policy = { balancing: 'source-ip' } as const;
    const order = balancer.order(
      { kind: 'service', service: web, endpoints },
      {
        dialledPort: 80,
        client,
        policy,
        atMost: 1,
      },
    );
    assert.equal(sticky?.address, `${order[0]?.address.ip}:8080`);
  });
});

describe('the endpoints of a service', () => {
  it('are all of them, with state, place and subsets', () => {
    const entries = steeredEntries.map((entry) =>
      entry.kind === 'workload' && entry.name === 'b'
        ? { ...entry, availability: 'unready' as const, locality: { host: 'h', zone: 'z' } }
        : entry,
    );
    const { snapshot } = steeredSet({ destinationRules: [steeredRule] });
    const found = serviceEndpoints({ snapshot, registry: lookupOf(entries) }, web, dialled);
    assert.deepEqual(
      found.map(({ workload, state, zone, subsets }) => [workload, state, zone, subsets]),
      [
        ['shop/a', 'ready', null, ['v1']],
        ['shop/b', 'not ready', 'z', ['v1']],
        ['shop/c', 'ready', null, ['v2']],
      ],
    );
    assert.deepEqual(serviceEndpoints({ snapshot, registry }, web, { ...dialled, port: 9 }), []);
  });

  it('have what agents say of them, of the service and its subsets alone', () => {
    const { snapshot } = steeredSet({ destinationRules: [steeredRule] });
    const ejected = (destination: string, address = '198.18.1.3:8080') => ({
      destination,
      rule: 'billing/limits',
      workload: 'shop/c',
      address,
      state: 'ejected' as const,
      reason: 'CONNECT_REFUSED',
      count: 1,
      forMs: 29_500,
      threads: 2,
    });
    const told = [
      ejected('shop/web:80'),
      ejected('subset v2 of shop/web:80'),
      ejected('shop/web:81'),
      ejected('a-shop/web:80'),
      // The address is another workload's by now.
      { ...ejected('shop/web:80'), workload: 'shop/gone' },
    ];
    const agents = [
      { node: 'n1', heartbeat: { ejected: told } },
      { node: 'n2', heartbeat: null },
      { node: 'n3', heartbeat: { ejected: [ejected('shop/web:80', '198.18.1.3:9')] } },
    ];
    const found = serviceEndpoints({ snapshot, registry }, web, dialled, agents);
    assert.deepEqual(
      found.map((each) => each.ejected.map(({ node, destination }) => [node, destination])),
      [
        [],
        [],
        [
          ['n1', 'shop/web:80'],
          ['n1', 'subset v2 of shop/web:80'],
        ],
      ],
    );
    assert.match(
      renderEndpoints(found),
      /Ejected, as agents said last:\n.*\nshop\/c +n1 +2 +shop\/web:80 +billing\/limits +ejected +CONNECT_REFUSED +1 +30s\n/,
    );
  });
});
