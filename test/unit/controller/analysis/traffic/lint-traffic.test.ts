import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { lintSet } from '../../../../../controller/analysis/lint/lint-set.js';
import type { RouteMatch, TrafficRoute } from '../../../../../shared/policy/traffic-documents.js';
import { steeredRule, steeredSet, virtualService } from '../../../../support/rules/steered-set.js';

type Documents = Parameters<typeof steeredSet>[0];

function lint(documents: Documents): string[] {
  const findings = lintSet({ ...steeredSet(documents), clock: { nowMs: () => 0 } });
  return findings.map(({ severity, kind, resource, message }) => `${severity}: ${resource}: ${kind}: ${message}`);
}

const to = (...matches: readonly RouteMatch[]): TrafficRoute => ({
  matches,
  choices: [{ subset: 'v1', weight: 1 }],
});

describe('lint of documents about traffic', () => {
  it('finds nothing in a canary with a route of its own for some clients', () => {
    const choices = [
      { subset: 'v1', weight: 90 },
      { subset: 'v2', weight: 10 },
    ];
    const document = virtualService(to({ sourceNamespace: 'reports' }), { matches: [], choices });
    assert.deepEqual(lint({ destinationRules: [steeredRule], virtualServices: [document] }), []);
  });

  it('finds subsets that match nothing, also of a wildcard', () => {
    const subsets = [{ name: 'v7', labels: { version: 'v7' }, policy: {}, ports: {} }];
    for (const host of [steeredRule.host, '*.shop.svc.cluster.local', '*']) {
      assert.deepEqual(lint({ destinationRules: [{ ...steeredRule, host, subsets }] }), [
        `warning: DestinationRule/shop/web: empty subset: the subset v7 matches no workload of ${host}, so connections to it are refused`,
      ]);
    }
    const ofOthers = [{ name: 'api', labels: { app: 'api' }, policy: {}, ports: {} }];
    assert.equal(lint({ destinationRules: [{ ...steeredRule, subsets: ofOthers }] }).length, 1);
  });

  it('finds a warm-up for a service whose clients stay with their workload, of any port or subset', () => {
    const policy = { warmup: { durationMs: 1000, minPercent: 10, aggression: 1 } };
    const found = (rule: object, isSticky = true) => {
      const set = steeredSet({ destinationRules: [{ ...steeredRule, ...rule }] });
      const entries = set.entries.map((entry) =>
        entry.kind === 'service' && isSticky ? { ...entry, isSticky: true as const } : entry,
      );
      const findings = lintSet({ ...set, entries, clock: { nowMs: () => 0 } });
      return findings.map(({ kind, resource, message }) => `${kind} ${resource}: ${message}`);
    };
    const text =
      'warmup without effect DestinationRule/shop/web: warmup has no effect for web.shop.svc.cluster.local: it has sessionAffinity: ClientIP, by which a client stays with its workload';
    const [subset] = steeredRule.subsets ?? [];
    for (const rule of [
      { policy },
      { ports: { 80: policy } },
      { subsets: [{ ...subset, policy }] },
      { host: '*', policy },
    ]) {
      assert.deepEqual(found(rule), [text]);
    }
    assert.deepEqual(found({ policy }, false), []);
    assert.deepEqual(found({ policy: { ...policy, balancing: 'least-connections' } }), []);
    assert.deepEqual(found({ ports: { 81: policy } }), []);
  });

  it('finds faults that have expired or never do, and none that end soon', () => {
    const faults = (expiresAtMs: number) => ({ delay: { percent: 0, delayMs: 1 }, abort: { percent: 1, expiresAtMs } });
    const found = (expiresAtMs: number) =>
      lint({
        virtualServices: [
          virtualService({ matches: [], choices: [{ subset: null, weight: 1 }], faults: faults(expiresAtMs) }),
        ],
      });
    assert.deepEqual(found(1), []);
    assert.deepEqual(found(0), [
      'warning: VirtualService/shop/web: expired: spec.tcp[0].fault.abort has expired at 1970-01-01T00:00:00.000Z',
    ]);
  });

  it('says which faults go on for ever, of those that are for a connection at all', () => {
    const faults = { abort: { percent: 0 }, throttle: { percent: 1, bytesPerSecond: 1024 } };
    const route = { matches: [], choices: [{ subset: null, weight: 1 }] };
    const narrow = { ...route, matches: [{ sourceNamespace: 'x' }] };
    assert.deepEqual(lint({ virtualServices: [virtualService(narrow, { ...route, faults })] }), [
      'info: VirtualService/shop/web: endless fault: spec.tcp[1].fault.throttle has no expiresAt: it goes on until the document changes',
    ]);
  });

  it('finds shadows that are not there, and a service that is its own', () => {
    const found = (mirror: TrafficRoute['mirror']) =>
      lint({
        virtualServices: [
          virtualService({ matches: [], choices: [{ subset: null, weight: 1 }], ...(mirror && { mirror }) }),
        ],
      });
    const of = 'warning: VirtualService/shop/web: invalid backend: spec.tcp[0].mirror';
    assert.deepEqual(found({ percent: 1, subset: null, service: 'shop/web' }), []);
    assert.deepEqual(found({ percent: 0, subset: null, service: 'shop/gone' }), []);
    assert.deepEqual(found({ percent: 1, subset: null }), [
      `${of} is the service itself, whose endpoints get again what clients send`,
    ]);
    assert.deepEqual(found({ percent: 1, subset: null, service: 'shop/gone' }), [
      `${of} leads to shop/gone: there is no such service, so nothing is copied`,
    ]);
    assert.deepEqual(found({ percent: 1, subset: null, service: 'shop/web', port: 9 }), [
      `${of} leads to shop/web: it has no port 9, so nothing is copied`,
    ]);
  });

  it('finds hosts that no service has', () => {
    const host = 'gone.shop.svc.cluster.local';
    const destinationRules = [{ ...steeredRule, host }];
    const virtualServices = [{ ...virtualService(to()), host }];
    assert.deepEqual(lint({ destinationRules, virtualServices }), [
      `warning: DestinationRule/shop/web: unknown host: no service has the name ${host}`,
      `warning: VirtualService/shop/web: unknown host: no service has the name ${host}`,
    ]);
    const wildcard = '*.nothing.svc.cluster.local';
    assert.deepEqual(lint({ destinationRules: [{ ...steeredRule, host: wildcard }] }), [
      `warning: DestinationRule/shop/web: unknown host: no registered service matches ${wildcard}`,
    ]);
  });

  it('finds weights that do not add up to 100, and says the shares', () => {
    const choices = [
      { subset: 'v1', weight: 90 },
      { subset: 'v2', weight: 30 },
    ];
    assert.deepEqual(
      lint({ destinationRules: [steeredRule], virtualServices: [virtualService({ matches: [], choices })] }),
      [
        'info: VirtualService/shop/web: uneven weights: the weights of spec.tcp[0] add up to 120, not to 100: v1 75 %, v2 25 %',
      ],
    );
  });

  const unreachable: readonly (readonly [why: string, routes: readonly TrafficRoute[], by: string | null])[] = [
    ['after one for all', [to(), to({ port: 80 })], 'spec.tcp[0]'],
    ['after one with an empty match', [to({}), to({ port: 80 })], 'spec.tcp[0]'],
    ['a port within a port', [to({ port: 80 }), to({ port: 80, sourceNamespace: 'a' })], 'spec.tcp[0]'],
    ['another port', [to({ port: 80 }), to({ port: 81 })], null],
    ['all after a port', [to({ port: 80 }), to()], null],
    ['more labels', [to({ sourceLabels: { a: '1' } }), to({ sourceLabels: { a: '1', b: '2' } })], 'spec.tcp[0]'],
    ['fewer labels', [to({ sourceLabels: { a: '1', b: '2' } }), to({ sourceLabels: { a: '1' } })], null],
    [
      'a network within',
      [to({ destinationSubnets: ['198.19.0.0/16'] }), to({ destinationSubnets: ['198.19.1.0/24'] })],
      'spec.tcp[0]',
    ],
    [
      'a wider network',
      [to({ destinationSubnets: ['198.19.1.0/24'] }), to({ destinationSubnets: ['198.19.0.0/16'] })],
      null,
    ],
    [
      'each alternative by another',
      [to({ port: 80 }), to({ port: 81 }), to({ port: 81 }, { port: 80 })],
      'spec.tcp[1] and spec.tcp[0]',
    ],
    ['one of two alternatives', [to({ port: 80 }), to({ port: 80 }, { port: 82 })], null],
  ];
  for (const [why, routes, by] of unreachable) {
    it(`${by === null ? 'finds no' : 'finds an'} unreachable route: ${why}`, () => {
      const found = lint({ destinationRules: [steeredRule], virtualServices: [virtualService(...routes)] });
      const last = routes.length - 1;
      const message = `spec.tcp[${last}] leads no connection: ${by ?? ''} comes first and matches all that it matches`;
      assert.deepEqual(found, by === null ? [] : [`warning: VirtualService/shop/web: unreachable route: ${message}`]);
    });
  }

  it('finds RateLimits that are for no connection, and none else', () => {
    const host = 'web.shop.svc.cluster.local';
    const limit = (rest: object) =>
      ({ namespace: 'shop', name: 'l', host, per: 'pair', mode: 'audit', max: 5, ...rest }) as const;
    const rateLimits = [
      limit({}),
      limit({ ports: [80, 9], sources: [{ serviceAccount: 'x/y' }, { labels: { app: 'job' } }] }),
      limit({ name: 'ports', ports: [9] }),
      limit({ name: 'clients', sources: [{ namespace: 'nix' }] }),
      limit({ name: 'host', host: 'nix.shop.svc.cluster.local' }),
      limit({ namespace: 'reports' }),
      limit({ namespace: 'root', sources: [{ namespace: 'reports' }] }),
      limit({ namespace: 'reports', name: 'others', sources: [{ namespace: 'shop' }] }),
      limit({ namespace: 'third', host: '*' }),
    ];
    assert.deepEqual(lint({ rateLimits }), [
      'warning: RateLimit/shop/ports: matches nothing: web.shop.svc.cluster.local has none of the ports 9, so the limit is for no connection',
      'warning: RateLimit/shop/clients: matches nothing: no registered workload is one of its clients (from), so the limit is for no connection',
      ...['RateLimit/reports/others', 'RateLimit/third/l'].map((resource) => {
        const namespace = resource.split('/')[1] ?? '';
        return `warning: ${resource}: matches nothing: it is for clients of ${namespace} alone, its own namespace, and none of them is a client of it, so the limit is for no connection`;
      }),
      'warning: RateLimit/shop/host: unknown host: no service has the name nix.shop.svc.cluster.local',
    ]);
  });
});
