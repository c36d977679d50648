import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { diffSets } from '../../../../../controller/analysis/diff/diff-sets.js';
import { renderDiff } from '../../../../../controller/cli/view/render-diff.js';
import type { RouteFaults } from '../../../../../shared/policy/traffic-documents.js';
import type { FlowRecord } from '../../../../../shared/wire/flows.js';
import { flow } from '../../../../support/rules/analysis-flow-world.js';
import { steeredRule, steeredSet, virtualService } from '../../../../support/rules/steered-set.js';
import { workloadNamed } from '../../../../support/routing/names.js';

const clock = { nowMs: () => 0 };
const end = (name: string) => ({ workload: workloadNamed(name), identity: null, cidr: null });
const flows: readonly FlowRecord[] = [
  flow({ source: end('shop/api'), destination: end('shop/a'), port: 8080, connections: 5 }),
  flow({ source: end('shop/api'), destination: end('shop/c'), port: 8080, connections: 2 }),
  flow({ source: end('reports/job'), destination: end('shop/b'), port: 8080, connections: 1 }),
  flow({ source: end('shop/api'), destination: end('shop/a'), port: 22, connections: 9 }),
  flow({ source: end('shop/api'), destination: end('reports/job'), port: 8080, connections: 9 }),
];
const canary = virtualService(
  { matches: [{ sourceNamespace: 'reports' }], choices: [{ subset: 'v2', weight: 1 }] },
  {
    matches: [],
    choices: [
      { subset: 'v1', weight: 90 },
      { subset: 'v2', weight: 10 },
    ],
  },
);
const documents = { destinationRules: [steeredRule], virtualServices: [canary] };

function diff(before: Parameters<typeof steeredSet>[0], after: Parameters<typeof steeredSet>[0]) {
  return diffSets({ before: steeredSet(before), after: steeredSet(after), flows, clock });
}

describe('what a changed route does to recorded clients', () => {
  it('is nothing where no document changes', () => {
    assert.deepEqual(diff({}, {}).traffic, []);
    assert.deepEqual(diff(documents, documents).traffic, []);
    const set = steeredSet(documents);
    assert.equal(diffSets({ before: set, after: set, flows: null, clock }).traffic, null);
  });

  it('is said by client and service, with the connections that were recorded', () => {
    const result = diff({}, documents);
    assert.equal(result.wouldBreak, false);
    const before = 'all (least-connections, 3 of its endpoints)';
    assert.deepEqual(result.traffic, [
      {
        sources: ['shop/api'],
        service: 'shop/web:80',
        worked: 7,
        before,
        after: 'v1 90 % (least-connections, 2 of its endpoints), v2 10 % (least-connections, 1 of its endpoints)',
        isBroken: false,
      },
      {
        sources: ['reports/job'],
        service: 'shop/web:80',
        worked: 1,
        before,
        after: 'v2 (least-connections, 1 of its endpoints)',
        isBroken: false,
      },
    ]);
    const text = renderDiff(result, 0);
    assert.match(
      text,
      /Recorded clients whose new connections would go elsewhere:\nFROM +SERVICE +CONNECTIONS +ROUTE\n/,
    );
    assert.match(text, /shop\/api +shop\/web:80 +7 +all \(least-connections/);
  });

  it('is said of faults that are in effect, and an abort breaks what worked', () => {
    const faulty = (faults: RouteFaults) => ({
      virtualServices: [virtualService({ matches: [], choices: [{ subset: null, weight: 1 }], faults })],
    });
    const after = (faults: RouteFaults) =>
      diff({}, faulty(faults)).traffic?.map(({ after, isBroken }) => [after, isBroken]);
    const all = 'all (least-connections, 3 of its endpoints)';
    assert.deepEqual(after({ delay: { percent: 10, delayMs: 5 } }), [[`${all}; delay of 5ms for 10 %`, false]]);
    assert.deepEqual(after({ abort: { percent: 5, expiresAtMs: 1 } }), [[`${all}; abort for 5 %`, true]]);
    assert.deepEqual(after({ abort: { percent: 5, expiresAtMs: 0 }, throttle: { percent: 0, bytesPerSecond: 1 } }), []);
    const aborting = { abort: { percent: 5 } };
    assert.equal(diff(faulty(aborting), faulty({ abort: { percent: 6 } })).wouldBreak, false, 'it did before');
  });

  it('is said of copies for a shadow, which break nothing', () => {
    const mirror = { percent: 5, subset: null, service: 'shop/next' };
    const mirrored = virtualService({ matches: [], choices: [{ subset: null, weight: 1 }], mirror });
    assert.deepEqual(
      diff({}, { virtualServices: [mirrored] }).traffic?.map(({ after, isBroken }) => [after, isBroken]),
      [['all (least-connections, 3 of its endpoints); mirror to shop/next:80 for 5 %', false]],
    );
  });

  it('breaks what worked where a route leads to nothing that serves', () => {
    const subsets = [{ name: 'v2', labels: { version: 'v9' }, policy: {}, ports: {} }];
    const only = virtualService({ matches: [], choices: [{ subset: 'v2', weight: 1 }] });
    const result = diff(documents, { destinationRules: [{ ...steeredRule, subsets }], virtualServices: [only] });
    assert.equal(result.wouldBreak, true);
    assert.deepEqual(
      result.traffic?.map(({ sources, after, isBroken }) => [sources, after, isBroken]),
      [
        [['shop/api'], 'v2 (refused)', true],
        [['reports/job'], 'v2 (refused)', true],
      ],
    );
    assert.match(renderDiff(result, 0), /^WOULD BREAK: recorded clients whose new connections would be refused/m);
  });

  it('is said of RateLimits that they get, lose, or get otherwise', () => {
    const limit = { namespace: 'shop', name: 'l', host: 'web.shop.svc.cluster.local', per: 'pair', max: 5 } as const;
    const sources = [{ namespace: 'reports' }];
    const { traffic, wouldBreak } = diff(
      { rateLimits: [{ ...limit, mode: 'audit' }] },
      { rateLimits: [{ ...limit, sources, mode: 'enforce', rate: { perSecond: 2, burst: 3 } }] },
    );
    const plain = 'all (least-connections, 3 of its endpoints)';
    assert.equal(wouldBreak, false);
    assert.deepEqual(
      traffic?.map(({ sources: clients, before, after }) => [clients, before, after]),
      [
        [['shop/api'], `${plain}; RateLimit/shop/l: 5 open (audit)`, plain],
        [
          ['reports/job'],
          `${plain}; RateLimit/shop/l: 5 open (audit)`,
          `${plain}; RateLimit/shop/l: 2 a second (burst 3), 5 open`,
        ],
      ],
    );
  });
});
