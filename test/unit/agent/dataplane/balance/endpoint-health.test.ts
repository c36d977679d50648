import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { EndpointHealth } from '../../../../../agent/dataplane/balance/endpoint-health.js';
import type { HealthUse } from '../../../../../agent/dataplane/balance/health-use.js';
import { verdictOf } from '../../../../../agent/dataplane/balance/verdict.js';
import { countedDestination } from '../../../../../agent/dataplane/report/counted-destination.js';
import type { OutlierPolicy } from '../../../../../shared/policy/traffic-documents.js';
import type { Endpoint } from '../../../../../shared/routing/destination.js';
import { ip, workload } from '../../../../support/routing/registry-entries.js';
import { propertyRuns } from '../../../../support/property-runs.js';
import { NaiveHealth, type NaiveUse } from '../../../../support/agent/naive-health.js';

const policy: OutlierPolicy = {
  failures: 3,
  baseEjectionMs: 1000,
  decayMs: 10_000,
  maxEjectionPercent: 50,
  minHealthPercent: 0,
};
const rule = { namespace: 'shop', name: 'limits' };
const web = countedDestination(rule, { namespace: 'shop', name: 'web' }, { subset: null, dialledPort: 80 });
const some = (count: number): Endpoint[] =>
  Array.from({ length: count }, (_, index) => ({
    workload: null,
    address: { ip: ip(`198.18.0.${index >> 1}`), port: 8080 + (index & 1) },
  }));

class World {
  nowMs = 0;
  endpoints: readonly Endpoint[];
  readonly gone = new Set<Endpoint>();
  /** Rules in force, by name. */
  readonly rules = new Set([web.rule]);
  readonly health: EndpointHealth;
  readonly policy: OutlierPolicy;

  constructor(init: { endpoints?: number; policy?: Partial<OutlierPolicy>; random?: () => number } = {}) {
    this.endpoints = some(init.endpoints ?? 4);
    this.policy = { ...policy, ...init.policy };
    this.health = new EndpointHealth({
      nowMs: () => this.nowMs,
      random: init.random ?? (() => 0),
      isThere: (endpoint) => !this.gone.has(endpoint),
      rulesNow:
        () =>
        ({ rule: name }) =>
          this.rules.has(name),
    });
  }

  usable(destination = web): number[] {
    return this.judged(destination)[0];
  }

  /** The positions of those that are usable, and whether all are because of a panic. */
  judged(destination = web): [number[], boolean] {
    const { isNone, isPanic, isUsable } = this.health.usable(destination, this.endpoints, this.policy);
    const left = this.endpoints.filter((endpoint) => !isNone && isUsable?.(endpoint) !== false);
    assert.equal(isNone, left.length === 0);
    return [left.map((endpoint) => this.endpoints.indexOf(endpoint)), isPanic];
  }

  begin(index: number, hasAnswered: () => boolean = () => false, isPanic = false): HealthUse | null {
    const { policy: of, endpoints } = this;
    return this.health.begin(web, endpoints[index]!, { policy: of, among: endpoints, isPanic, hasAnswered });
  }

  fail(index: number, times = 1): void {
    for (let i = 0; i < times; i++) this.begin(index)?.end('failed', 'CONNECT_REFUSED');
  }
}

describe('an endpoint', () => {
  it('is ejected after as many failures in a row as the policy says, and no earlier', () => {
    const world = new World();
    world.fail(1, 2);
    world.begin(1)?.end('worked', 'OK');
    world.fail(1, 2);
    world.begin(1)?.end('unknown', 'POLICY_DENY');
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
    world.fail(1);
    assert.deepEqual(world.usable(), [0, 2, 3]);
    assert.equal(world.begin(1), null);
    assert.deepEqual(
      world.usable(countedDestination(rule, { namespace: 'shop', name: 'other' }, { subset: null, dialledPort: 80 })),
      [0, 1, 2, 3],
    );
    const ofOther = countedDestination(
      { namespace: 'billing', name: 'limits' },
      { namespace: 'shop', name: 'web' },
      { subset: null, dialledPort: 80 },
    );
    assert.deepEqual(world.usable(ofOther), [0, 1, 2, 3]);
  });

  it('is whole, and told no more, once no rule ejects it', () => {
    const world = new World();
    const open = world.begin(1);
    world.fail(1, 3);
    assert.deepEqual([world.usable(), world.health.take().ejected.length], [[0, 2, 3], 1]);
    world.rules.clear();
    assert.deepEqual([world.health.take().ejected, world.health.size, world.usable()], [[], 0, [0, 1, 2, 3]]);
    // The rule is back: what was open under the old one does not count for it.
    world.rules.add(web.rule);
    open?.end('failed', 'PEER_RESET');
    world.fail(1, 2);
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
    world.fail(1);
    assert.deepEqual(world.usable(), [0, 2, 3]);
  });

  it('that has failed too often is said to stay where no more may be ejected', () => {
    const world = new World({ endpoints: 2, policy: { failures: 2, maxEjectionPercent: 50 } });
    const failOf = (index: number) => world.begin(index)?.end('failed', 'CONNECT_REFUSED');
    assert.deepEqual([failOf(0), failOf(0), failOf(1), failOf(1), failOf(1)], [false, false, false, true, true]);
    assert.equal(world.begin(1)?.end('worked', 'OK'), false);
    assert.deepEqual([world.usable(), failOf(1)], [[1], false]);
  });

  it('is tried by one connection when its time is over, and is whole when that works', () => {
    const world = new World();
    world.fail(1, 3);
    world.nowMs = 999;
    assert.deepEqual(world.usable(), [0, 2, 3]);
    world.nowMs = 1000;
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
    const trial = world.begin(1);
    assert.ok(trial !== null);
    assert.deepEqual([world.usable(), world.begin(1)], [[0, 2, 3], null]);
    trial.end('unknown', 'CLIENT_RESET');
    const second = world.begin(1);
    assert.ok(second !== null);
    second.end('worked', 'OK');
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
    world.fail(1, 2);
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
  });

  it('is whole from the first byte of its trial on, or after five seconds without a reset', () => {
    const world = new World();
    world.fail(1, 3);
    world.nowMs = 1000;
    let hasAnswered = false;
    world.begin(1, () => hasAnswered)?.connected();
    assert.deepEqual(world.usable(), [0, 2, 3]);
    hasAnswered = true;
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
    world.fail(2, 3);
    world.nowMs = 2000;
    world.begin(2)?.connected();
    world.nowMs = 6999;
    assert.deepEqual(world.usable(), [0, 1, 3]);
    world.nowMs = 7000;
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
  });

  it('is ejected for longer each time, up to five minutes, and healthy time takes it back', () => {
    const world = new World({ policy: { baseEjectionMs: 100_000 } });
    const penalties: number[] = [];
    const forMs = (): number => world.health.take().ejections.at(-1)?.forMs ?? 0;
    for (let round = 0; round < 5; round++) {
      if (round === 0) world.fail(1, 3);
      else world.fail(1);
      penalties.push(forMs());
      world.nowMs += penalties.at(-1)!;
    }
    assert.deepEqual(penalties, [100_000, 200_000, 300_000, 300_000, 300_000]);
    world.begin(1)?.end('worked', 'OK');
    world.nowMs += 3 * world.policy.decayMs;
    world.fail(1, 3);
    assert.equal(forMs(), 300_000);
    world.nowMs += 300_000;
    world.begin(1)?.end('worked', 'OK');
    world.nowMs += 2 * world.policy.decayMs;
    world.fail(1, 3);
    assert.equal(forMs(), 200_000);
  });

  it('comes back a tenth later at most, by chance', () => {
    for (const [chance, forMs] of [
      [0, 1000],
      [0.5, 1050],
      [0.999, 1099.9],
    ] as const) {
      const world = new World({ random: () => chance });
      world.fail(0, 3);
      assert.deepEqual(
        world.health.take().ejections.map((ejection) => Math.round(ejection.forMs * 10) / 10),
        [forMs],
      );
    }
  });

  it('is ejected although it worked before, and while a connection to it that has worked is still open', () => {
    const world = new World();
    const old = world.begin(1, () => true);
    old?.connected();
    old?.end('worked', 'OK');
    world.begin(1, () => true)?.connected();
    world.fail(1, 3);
    assert.deepEqual(world.usable(), [0, 2, 3]);
  });

  it('is not ejected by failures that a later connection has outlived', () => {
    const world = new World();
    world.fail(1, 2);
    world.begin(1, () => true)?.connected();
    world.fail(1, 2);
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
    world.fail(1);
    assert.deepEqual(world.usable(), [0, 2, 3]);
  });
});

describe('an endpoint that left', () => {
  const named = (name: string, netns = name): Endpoint => ({
    workload: { ...workload(`shop/${name}`, ['198.18.0.1']), netns },
    address: { ip: ip('198.18.0.1'), port: 8080 },
  });

  it('leaves its address to another workload without its state, also to one of its name', () => {
    const world = new World({ endpoints: 2, policy: { maxEjectionPercent: 100 } });
    world.endpoints = [named('web-0', 'pod:1'), ...some(2)];
    world.fail(0, 3);
    assert.deepEqual(world.usable(), [1, 2]);
    for (const heir of [named('other'), named('web-0', 'pod:2')]) {
      world.endpoints = [heir, ...world.endpoints.slice(1)];
      assert.deepEqual(world.usable(), [0, 1, 2]);
    }
    world.fail(0, 2);
    assert.deepEqual(world.usable(), [0, 1, 2]);
  });

  it('is none of those that may be ejected at once', () => {
    const world = new World({ policy: { maxEjectionPercent: 25 } });
    world.fail(0, 3);
    world.fail(1, 3);
    assert.deepEqual(world.usable(), [1, 2, 3]);
    world.endpoints = world.endpoints.slice(1);
    world.fail(0, 3);
    assert.deepEqual(world.usable(), [1, 2]);
  });

  it('is not told any more, and what its open connections tell later changes nothing', () => {
    const world = new World({ policy: { maxEjectionPercent: 100 } });
    const open = world.begin(1);
    world.fail(1, 3);
    world.nowMs = 1000;
    const trial = world.begin(1);
    world.gone.add(world.endpoints[1]!);
    assert.deepEqual([world.health.take().ejected, world.health.size], [[], 0]);
    trial?.end('failed', 'CONNECT_REFUSED');
    open?.connected();
    open?.end('failed', 'PEER_RESET');
    assert.deepEqual([world.health.take(), world.usable()], [{ ejections: [], ejected: [] }, [0, 1, 2, 3]]);
  });
});

describe('of a destination', () => {
  it('endpoints are looked at one by one, and all of them only where it matters how many are left', () => {
    const world = new World({ endpoints: 1000, policy: { maxEjectionPercent: 100, minHealthPercent: 50 } });
    let looks = 0;
    for (const endpoint of world.endpoints) {
      const { address } = endpoint;
      Object.defineProperty(endpoint, 'address', { get: () => (looks++, address) });
    }
    const looksFor = (ask: () => unknown): number => {
      const before = looks;
      ask();
      return looks - before;
    };
    const ask = () => world.health.usable(web, world.endpoints, world.policy);
    for (let index = 0; index < 500; index++) world.fail(index, 3);
    assert.equal(looksFor(ask), 0);
    const { isUsable } = ask();
    assert.ok(looksFor(() => isUsable?.(world.endpoints[500]!)) <= 3);
    world.fail(500, 3);
    assert.ok(looksFor(() => assert.equal(ask().isPanic, true)) >= 1000);
    assert.equal(looksFor(ask), 0, 'nothing has changed');
    world.nowMs = 1000;
    assert.ok(looksFor(() => assert.equal(ask().isPanic, false)) >= 1000);
    assert.equal(looksFor(ask), 0);
  });

  it('no larger share is ejected than may be, and at least one endpoint, unless none may', () => {
    for (const [maxEjectionPercent, endpoints, left] of [
      [50, 4, [2, 3]],
      [10, 4, [1, 2, 3]],
      [100, 4, []],
      [0, 4, [0, 1, 2, 3]],
      [10, 1, []],
    ] as const) {
      const world = new World({ endpoints, policy: { maxEjectionPercent } });
      for (let index = 0; index < endpoints; index++) world.fail(index, 6);
      assert.deepEqual(world.usable(), left, `${maxEjectionPercent} of ${endpoints}`);
    }
  });

  it('all endpoints are used where fewer are healthy than must be, also those that are ejected', () => {
    const world = new World({ policy: { maxEjectionPercent: 100, minHealthPercent: 50 } });
    world.fail(0, 3);
    world.fail(1, 3);
    assert.deepEqual(world.usable(), [2, 3]);
    world.fail(2, 3);
    assert.deepEqual(world.judged(), [[0, 1, 2, 3], true]);
    world.begin(0, () => true, true)?.end('worked', 'OK');
    assert.equal(world.begin(0), null, 'a connection in a panic is no trial before the time is over');
  });

  it('what is ejected is told with why, and forgotten ten minutes after the last question', () => {
    const world = new World();
    world.fail(1, 3);
    const { ejections, ejected } = world.health.take();
    const { address } = world.endpoints[1]!;
    const common = {
      destination: 'shop/web:80',
      rule: 'shop/limits',
      workload: null,
      address,
      reason: 'CONNECT_REFUSED',
      count: 1,
      forMs: 1000,
    };
    assert.deepEqual([ejections, ejected], [[common], [{ ...common, state: 'ejected' }]]);
    world.nowMs = 1500;
    assert.deepEqual(
      world.health.take().ejected.map(({ state, forMs }) => [state, forMs]),
      [['to be tried', 0]],
    );
    const trial = world.begin(1);
    assert.equal(world.health.take().ejected[0]?.state, 'on trial');
    trial?.end('unknown', 'CLIENT_RESET');
    world.nowMs += 601_000;
    assert.deepEqual(world.health.take(), { ejections: [], ejected: [] });
    assert.deepEqual(world.usable(), [0, 1, 2, 3]);
  });
});

type Step = {
  readonly what: 'begin' | 'connected' | 'answer' | 'worked' | 'failed' | 'unknown';
  readonly at: number;
  readonly waitMs: number;
};

it('the states of endpoints are those of a naive reference, for random connections', () => {
  const step: fc.Arbitrary<Step> = fc.record({
    what: fc.constantFrom('begin', 'begin', 'connected', 'answer', 'worked', 'failed', 'failed', 'failed', 'unknown'),
    at: fc.nat(30),
    waitMs: fc.constantFrom(0, 0, 0, 1, 400, 1000, 5000, 20_000),
  });
  const policies = fc.record({
    failures: fc.integer({ min: 1, max: 3 }),
    baseEjectionMs: fc.constantFrom(1, 1000, 200_000),
    decayMs: fc.constantFrom(1000, 10_000),
    maxEjectionPercent: fc.constantFrom(0, 10, 50, 100),
    minHealthPercent: fc.constantFrom(0, 50, 100),
  });
  let ejections = 0;
  fc.assert(
    fc.property(policies, fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 80 }), (of, endpoints, steps) => {
      const world = new World({ endpoints, policy: of });
      const naive = new NaiveHealth({ policy: of, endpoints, nowMs: () => world.nowMs });
      const open: { use: HealthUse; same: NaiveUse; state: { hasAnswered: boolean } }[] = [];
      for (const { what, at, waitMs } of steps) {
        world.nowMs += waitMs;
        const [left, isPanic] = world.judged();
        assert.deepEqual([left, isPanic], naive.usable());
        const chosen = open[at % Math.max(1, open.length)];
        if (what === 'begin') {
          const state = { hasAnswered: false };
          const use = world.begin(at % endpoints, () => state.hasAnswered, isPanic);
          const same = naive.begin(at % endpoints, isPanic);
          assert.equal(use === null, same === null);
          if (use !== null && same !== null) open.push({ use, same, state });
        } else if (chosen !== undefined && what === 'connected') {
          chosen.use.connected();
          naive.connected(chosen.same);
        } else if (chosen !== undefined && what === 'answer') {
          chosen.state.hasAnswered = true;
          chosen.same.hasAnswered = true;
        } else if (chosen !== undefined && (what === 'worked' || what === 'failed' || what === 'unknown')) {
          chosen.use.end(what, 'PEER_RESET');
          naive.end(chosen.same, what);
          open.splice(open.indexOf(chosen), 1);
        }
      }
      const told = world.health.take();
      ejections += told.ejections.length;
      assert.deepEqual(
        new Map(
          told.ejected.map(({ address, count }) => [
            world.endpoints.findIndex((each) => each.address === address),
            count,
          ]),
        ),
        new Map(naive.ejected()),
      );
    }),
    { numRuns: propertyRuns(2000) },
  );
  assert.ok(ejections > 0);
});

it('costs nothing per endpoint where none is ejected, and keeps nothing of endpoints that are long whole', () => {
  const world = new World({ endpoints: 200 });
  assert.equal(world.health.usable(web, world.endpoints, policy).isUsable, null);
  for (let index = 0; index < 200; index++) world.begin(index)?.end('worked', 'OK');
  world.nowMs += 700_000;
  world.health.take();
  assert.equal(world.health.size, 0);
  // What was forgotten is known again by the same object.
  world.fail(1, 3);
  assert.deepEqual([world.health.size, world.health.take().ejected.length], [1, 1]);
});

for (const [reason, hasAnswered, verdict] of [
  ['OK', false, 'worked'],
  ['CONNECT_REFUSED', false, 'failed'],
  ['CONNECT_TIMEOUT', false, 'failed'],
  ['HOST_UNREACHABLE', false, 'failed'],
  ['TLS_HANDSHAKE', false, 'failed'],
  ['NOT_MESHED_PEER', false, 'failed'],
  ['PEER_RESET', false, 'failed'],
  ['PEER_RESET', true, 'worked'],
  ['CLIENT_RESET', false, 'unknown'],
  ['CLIENT_RESET', true, 'worked'],
  ['POLICY_DENY', false, 'unknown'],
  ['CONN_LIMIT', false, 'unknown'],
  ['IDLE_TIMEOUT', false, 'unknown'],
  ['RESOURCE_FD', false, 'unknown'],
] as const) {
  it(`a connection that ends as ${reason} ${hasAnswered ? 'after' : 'before'} its first byte says: ${verdict}`, () => {
    assert.equal(verdictOf({ reason }, { hasAnswered }), verdict);
    const ofOurs = verdictOf({ reason, isOwn: true }, { hasAnswered });
    assert.equal(ofOurs, verdict === 'failed' ? 'unknown' : verdict);
  });
}
