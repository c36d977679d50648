import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { EndpointBalancer } from '../../../../../agent/dataplane/balance/endpoint-balancer.js';
import { EndpointWarmth } from '../../../../../agent/dataplane/balance/endpoint-warmth.js';
import { balancings, type Balancing } from '../../../../../shared/policy/traffic-documents.js';
import { longestWarmupMs, warmShare, type WarmupPolicy } from '../../../../../shared/policy/warmup.js';
import type { Endpoint } from '../../../../../shared/routing/destination.js';
import { workloadName, type WorkloadName } from '../../../../../shared/routing/names.js';
import { RandomChoices } from '../../../../support/mesh/random-choices.js';
import { ip, service, workload } from '../../../../support/routing/registry-entries.js';

const warmup: WarmupPolicy = { durationMs: 100_000, minPercent: 10, aggression: 1 };
const some = (count: number): Endpoint[] =>
  Array.from({ length: count }, (_, index) => ({
    workload: workload(`shop/web${index}`, [`198.18.0.${index}`]),
    address: { ip: ip(`198.18.0.${index}`), port: 8080 },
  }));
const nameOf = ({ workload: of }: Endpoint): WorkloadName => workloadName(of ?? { namespace: '', name: '' });

/** A balancer whose clock is set, and in which some of the endpoints became ready at its beginning. */
function world(init: { readonly endpoints: readonly Endpoint[]; readonly cool: readonly Endpoint[] }) {
  const { endpoints, cool } = init;
  const choices = new RandomChoices({ seed: 7 });
  const clock = { ms: 5_000_000 };
  const balancer = new EndpointBalancer({ random: () => choices.next(), nowMs: () => clock.ms });
  balancer.noteReady(cool.map((endpoint) => ({ workload: nameOf(endpoint), agoMs: 0 })));
  const web = service('shop/web', []);
  const order = (balancing: Balancing, more: Partial<Parameters<EndpointBalancer['order']>[1]> = {}) =>
    balancer.order(
      { kind: 'service', service: web, endpoints },
      {
        dialledPort: 80,
        client: ip('198.18.200.9'),
        policy: { balancing, warmup },
        atMost: 1,
        ...more,
      },
    );
  /** The share of connections that an endpoint gets first. */
  const shareOf = (endpoint: Endpoint, balancing: Balancing, times = 20_000): number => {
    let count = 0;
    for (let i = 0; i < times; i++) if (order(balancing)[0] === endpoint) count += 1;
    return count / times;
  };
  return { balancer, clock, order, shareOf };
}

describe('the share of a workload that became ready', () => {
  it('begins with the least, grows with the time that is over, and is whole at the end', () => {
    const shares = [0, 5000, 50_000, 99_000, 100_000, 1e9].map((ageMs) => warmShare(warmup, ageMs));
    assert.deepEqual(shares, [0.1, 0.1, 0.5, 0.99, 1, 1]);
  });

  it('grows faster in the beginning with aggression', () => {
    assert.equal(warmShare({ ...warmup, aggression: 2 }, 25_000), 0.5);
    assert.equal(warmShare({ ...warmup, aggression: 2, minPercent: 0 }, 0), 0);
  });

  it('never shrinks, and is between the least and the whole', () => {
    const rows = fc.record({
      durationMs: fc.integer({ min: 1, max: longestWarmupMs }),
      minPercent: fc.integer({ min: 0, max: 100 }),
      aggression: fc.double({ min: 1, max: 100, noNaN: true }),
      a: fc.nat(longestWarmupMs),
      b: fc.nat(longestWarmupMs),
    });
    fc.assert(
      fc.property(rows, ({ a, b, ...policy }) => {
        const [early, late] = [warmShare(policy, Math.min(a, b)), warmShare(policy, Math.max(a, b))];
        assert.ok(policy.minPercent / 100 <= early && early <= late && late <= 1, `${early} ${late}`);
      }),
    );
  });
});

describe('connections to a workload that became ready', () => {
  // Weights: its share against one of each of the three others. Passed over by chance, it gets this or, drawn from a list
  // without it, its part of a quarter. The tolerance is six standard deviations.
  for (const balancing of ['round-robin', 'random', 'least-connections'] as const) {
    for (const [afterMs, weight] of [
      [0, 0.1],
      [50_000, 0.5],
      [100_000, 1],
    ] as const) {
      it(`are its share of those of others: ${balancing}, ${afterMs / 1000} s`, () => {
        const endpoints = some(4);
        const { clock, shareOf } = world({ endpoints, cool: [endpoints[1]!] });
        clock.ms += afterMs;
        const [least, most] = [weight / 4, weight / (3 + weight)];
        const tolerance = 6 * Math.sqrt((most * (1 - most)) / 20_000);
        const share = shareOf(endpoints[1]!, balancing);
        assert.ok(
          least - tolerance < share && share < most + tolerance,
          `${share}, expected ${least} to ${most} ± ${tolerance}`,
        );
        // What it does not get all others get alike.
        for (const other of [endpoints[0]!, endpoints[2]!, endpoints[3]!]) {
          const ofOther = shareOf(other, balancing);
          const rest = (1 - share) / 3;
          assert.ok(
            Math.abs(ofOther - rest) < 7 * Math.sqrt((rest * (1 - rest)) / 20_000),
            `${ofOther}, expected ${rest}`,
          );
        }
      });
    }
  }

  it('are as many as those to others where all became ready together', () => {
    const endpoints = some(3);
    for (const balancing of ['round-robin', 'random', 'least-connections'] as const) {
      const { shareOf } = world({ endpoints, cool: endpoints });
      for (const endpoint of endpoints) assert.ok(Math.abs(shareOf(endpoint, balancing) - 1 / 3) < 0.02, balancing);
    }
  });

  it('are not fewer without a rule that says so', () => {
    const endpoints = some(2);
    const { order } = world({ endpoints, cool: [endpoints[0]!] });
    const firsts = Array.from({ length: 200 }, () => order('round-robin', { policy: { balancing: 'round-robin' } })[0]);
    assert.equal(firsts.filter((endpoint) => endpoint === endpoints[0]).length, 100);
  });

  it('stay with it where the address of the client decides', () => {
    const endpoints = some(5);
    const { order } = world({ endpoints, cool: endpoints });
    const first = order('source-ip', { policy: { balancing: 'source-ip' } });
    for (let i = 0; i < 20; i++) assert.deepEqual(order('source-ip'), first);
  });

  it('cost no look at all of very many that are as cool', () => {
    const endpoints = some(250);
    const { clock, order } = world({ endpoints, cool: endpoints });
    let looks = 0;
    Object.defineProperty(clock, 'ms', { get: () => (looks += 1) && 5_000_000 });
    for (const balancing of ['round-robin', 'random', 'least-connections'] as const) {
      looks = 0;
      const policy = { balancing, warmup: { ...warmup, minPercent: 0 } };
      assert.equal(order(balancing, { policy, atMost: 3 }).length, 3);
      assert.ok(looks < 100, `${balancing}: ${looks}`);
    }
  });

  it('are tried again there when the others cannot be reached, each endpoint once and only usable ones', () => {
    const rows = fc.record({
      size: fc.integer({ min: 2, max: 90 }),
      atMost: fc.integer({ min: 1, max: 6 }),
      cool: fc.integer({ min: 1, max: 90 }),
      unusable: fc.integer({ min: 0, max: 90 }),
      balancing: fc.constantFrom(...balancings),
    });
    fc.assert(
      fc.property(rows, ({ size, atMost, cool, unusable, balancing }) => {
        const endpoints = some(size);
        const { order } = world({ endpoints, cool: endpoints.slice(0, cool) });
        const usable = new Set(endpoints.slice(unusable));
        for (let i = 0; i < 5; i++) {
          const found = order(balancing, { atMost, isUsable: (endpoint) => usable.has(endpoint) });
          assert.equal(found.length, Math.min(usable.size, atMost));
          assert.equal(new Set(found).size, found.length);
          assert.ok(found.every((endpoint) => usable.has(endpoint)));
        }
      }),
    );
  });
});

describe('what is known of when workloads became ready', () => {
  it('is taken up for a list that was asked about before', () => {
    const endpoints = some(2);
    const clock = { ms: 0 };
    const warmth = new EndpointWarmth({ nowMs: () => clock.ms });
    const ready = (at: number, agoMs = 0) => warmth.note([{ workload: nameOf(endpoints[at]!), agoMs }]);
    assert.equal(warmth.isAnyCool(endpoints, warmup), false);
    ready(0, 99_000);
    assert.equal(warmth.isAnyCool(endpoints, warmup), true);
    clock.ms += 1000;
    assert.equal(warmth.isAnyCool(endpoints, warmup), false);
    ready(1);
    assert.equal(warmth.isAnyCool(endpoints, warmup), true);
    assert.deepEqual(
      [0, 1].map((at) => warmth.shareOf(endpoints[at]!, warmup)),
      [1, 0.1],
    );
  });

  it('does not grow with workloads that come and go', () => {
    const clock = { ms: 0 };
    const warmth = new EndpointWarmth({ nowMs: () => clock.ms });
    for (let i = 0; i < 20_000; i++) {
      clock.ms += longestWarmupMs / 1000;
      warmth.note([{ workload: workloadName({ namespace: 'shop', name: `web${i}` }), agoMs: 0 }]);
    }
    assert.ok(warmth.size <= 2048, String(warmth.size));
  });
});
