import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { EndpointBalancer } from '../../../../../agent/dataplane/balance/endpoint-balancer.js';
import { EndpointLoads, type EndpointUse } from '../../../../../agent/dataplane/balance/endpoint-loads.js';
import { drawn } from '../../../../../agent/dataplane/balance/random-order.js';
import { balancings, type Balancing } from '../../../../../shared/policy/traffic-documents.js';
import type { Endpoint } from '../../../../../shared/routing/destination.js';
import { ip, service, workload } from '../../../../support/routing/registry-entries.js';
import { RandomChoices } from '../../../../support/mesh/random-choices.js';

const some = (count: number): Endpoint[] =>
  Array.from({ length: count }, (_, index) => ({
    workload: null,
    address: { ip: ip(`198.18.${index >> 8}.${index & 255}`), port: 8080 },
  }));
/** A fixed seed always gives the same, so a share cannot flicker. */
function randomNumbers(seed: number): () => number {
  const choices = new RandomChoices({ seed });
  return () => choices.next();
}

const client = ip('198.18.200.9');
const web = service('shop/web', []);
const destination = (endpoints: readonly Endpoint[]) => ({ kind: 'service', service: web, endpoints }) as const;
const dial = (balancing: Balancing | null, atMost = 3) => ({
  dialledPort: 80,
  client,
  policy: balancing === null ? null : { balancing },
  atMost,
});

function balancerWith(seed: number, nowMs = () => 0): EndpointBalancer {
  return new EndpointBalancer({ random: randomNumbers(seed), nowMs });
}

/** How often each endpoint came first. */
function firsts(
  balancer: EndpointBalancer,
  endpoints: readonly Endpoint[],
  balancing: Balancing,
  times: number,
): number[] {
  const counts = new Map(endpoints.map((endpoint) => [endpoint, 0]));
  for (let i = 0; i < times; i++) {
    const [first] = balancer.order(destination(endpoints), dial(balancing));
    assert.ok(first);
    counts.set(first, (counts.get(first) ?? 0) + 1);
  }
  return [...counts.values()];
}

describe('the order of endpoints', () => {
  it('goes on in turn for connections that are served, as if no copies were made', () => {
    for (const balancing of ['round-robin', 'least-connections'] as const) {
      const balancer = balancerWith(5);
      const endpoints = some(2);
      const counts = new Map<string, number>();
      for (let i = 0; i < 20; i++) {
        for (const isCopy of [false, true]) {
          const [first] = balancer.order(destination(endpoints), { ...dial(balancing), isCopy });
          const of = `${isCopy ? 'copy' : 'served'} ${first?.address.ip}`;
          counts.set(of, (counts.get(of) ?? 0) + 1);
        }
      }
      assert.deepEqual([...counts.values()], [10, 10, 10, 10], balancing);
    }
  });

  it('has each endpoint at most once, as many as may be tried, and none that is not there', () => {
    const rows = fc.record({
      seed: fc.nat(),
      size: fc.integer({ min: 0, max: 200 }),
      atMost: fc.integer({ min: 1, max: 12 }),
      balancing: fc.constantFrom(null, ...balancings),
    });
    fc.assert(
      fc.property(rows, ({ seed, size, atMost, balancing }) => {
        const endpoints = some(size);
        const balancer = balancerWith(seed);
        for (let i = 0; i < 3; i++) {
          const order = balancer.order(destination(endpoints), dial(balancing, atMost));
          assert.equal(order.length, Math.min(size, atMost));
          assert.equal(new Set(order).size, order.length);
          assert.ok(order.every((endpoint) => endpoints.includes(endpoint)));
        }
      }),
    );
  });

  it('takes every endpoint in its turn, and tries the ones after it', () => {
    const endpoints = some(5);
    const balancer = balancerWith(1);
    const orders = Array.from({ length: 10 }, () => balancer.order(destination(endpoints), dial('round-robin')));
    const start = endpoints.indexOf(orders[0]![0]!);
    for (const [turn, order] of orders.entries()) {
      assert.deepEqual(
        order,
        [0, 1, 2].map((next) => endpoints[(start + turn + next) % 5]),
      );
    }
  });

  it('begins by chance where a service has come again, of whose turns nothing is kept', () => {
    const endpoints = some(5);
    const chances = [0, 0.5];
    const balancer = new EndpointBalancer({ random: () => chances.shift() ?? 0, nowMs: () => 0 });
    const firstOf = (of: typeof web) =>
      endpoints.indexOf(balancer.order({ ...destination(endpoints), service: of }, dial('round-robin'))[0]!);
    assert.deepEqual([web, web, { ...web }].map(firstOf), [0, 1, 2]);
  });

  // Six standard deviations of a binomial distribution: a fault is far outside, and a fixed seed always gives the same.
  for (const balancing of ['random', 'least-connections'] as const) {
    for (const size of [2, 7, 100]) {
      it(`gives ${size} idle endpoints the same share: ${balancing}`, () => {
        const times = 20_000;
        const expected = times / size;
        const tolerance = 6 * Math.sqrt(times * (1 / size) * (1 - 1 / size));
        for (const count of firsts(balancerWith(size), some(size), balancing, times)) {
          assert.ok(
            Math.abs(count - expected) < tolerance,
            `${count} of ${times}, expected ${expected} ± ${tolerance}`,
          );
        }
      });
    }
  }

  it('is that of the client for source-ip, also where the service is not sticky', () => {
    const endpoints = some(9);
    const [a, b] = [balancerWith(1), balancerWith(2)];
    const first = a.order(destination(endpoints), dial('source-ip'));
    for (let i = 0; i < 5; i++) assert.deepEqual(b.order(destination(endpoints), dial('source-ip')), first);
  });

  it('is in turns for a sticky service whose rule says so', () => {
    const sticky = { ...destination(some(3)), service: { ...web, isSticky: true as const } };
    const balancer = balancerWith(3);
    const orders = [1, 2, 3].map(() => balancer.order(sticky, dial('round-robin'))[0]);
    assert.equal(new Set(orders).size, 3);
  });
});

describe('least-connections', () => {
  const policy = { balancing: 'least-connections' } as const;
  const of = { service: web, policy };

  it('keeps the numbers of connections close to each other, where turns of unequal length do not', () => {
    const endpoints = some(10);
    const random = randomNumbers(11);
    const worstOf = (balancing: Balancing): number => {
      const balancer = balancerWith(12);
      const open = new Map(endpoints.map((endpoint) => [endpoint, 0]));
      const uses: { endpoint: Endpoint; use: EndpointUse | null }[] = [];
      let worst = 0;
      for (let i = 0; i < 20_000; i++) {
        const endpoint = balancer.order(destination(endpoints), dial(balancing))[0]!;
        uses.push({ endpoint, use: balancer.begin(endpoint, { service: web, policy: { balancing } }) });
        open.set(endpoint, open.get(endpoint)! + 1);
        // Connections of the first endpoint never end; of the others a random one does.
        const at = Math.floor(random() * uses.length);
        if (uses.length > 200 && uses[at]!.endpoint !== endpoints[0]) {
          const [ended] = uses.splice(at, 1);
          ended!.use?.end(false);
          open.set(ended!.endpoint, open.get(ended!.endpoint)! - 1);
        }
        worst = Math.max(worst, open.get(endpoints[0]!)! - Math.min(...open.values()));
      }
      return worst;
    };
    const [least, turns] = [worstOf('least-connections'), worstOf('round-robin')];
    assert.ok(turns > 1000, `in turns the first has ${turns} more`);
    assert.ok(least < turns / 4, `${least} and ${turns} more`);
  });

  it('gives endpoints the same share of connections that live for times by chance', () => {
    const endpoints = some(5);
    const random = randomNumbers(21);
    const balancer = balancerWith(22);
    const counts = new Map(endpoints.map((endpoint) => [endpoint, 0]));
    const open: (EndpointUse | null)[] = [];
    const times = 20_000;
    for (let i = 0; i < times; i++) {
      const [endpoint] = balancer.order(destination(endpoints), dial(null));
      assert.ok(endpoint);
      counts.set(endpoint, counts.get(endpoint)! + 1);
      open.push(balancer.begin(endpoint, { service: web, policy: null }));
      if (open.length > 100) open.splice(Math.floor(random() * open.length), 1)[0]?.end(false);
    }
    const tolerance = 3 * Math.sqrt(times * (1 / 5) * (4 / 5));
    for (const count of counts.values()) assert.ok(Math.abs(count - times / 5) < tolerance, `${count} of ${times}`);
  });

  it('takes a random other one only where that is lighter, and turns where all are equal', () => {
    const endpoints = some(4);
    const balancer = balancerWith(23);
    const firstOf = (): number => endpoints.indexOf(balancer.order(destination(endpoints), dial(null, 1))[0]!);
    const start = firstOf();
    assert.deepEqual(
      [1, 2, 3, 4].map(firstOf),
      [1, 2, 3, 4].map((turn) => (start + turn) % 4),
    );
    const busy = (start + 1) % 4;
    balancer.begin(endpoints[busy]!, { service: web, policy: null });
    for (let i = 0; i < 50; i++) assert.notEqual(firstOf(), busy);
  });

  it('counts a connection from its beginning to its end, once', () => {
    const [a, b] = some(2) as [Endpoint, Endpoint];
    const balancer = balancerWith(5);
    const always = (first: Endpoint): void => {
      for (let i = 0; i < 50; i++)
        assert.equal(balancer.order(destination([a, b]), dial('least-connections'))[0], first);
    };
    const use = balancer.begin(a, of);
    always(b);
    const second = balancer.begin(b, of);
    const third = balancer.begin(b, of);
    always(a);
    for (const each of [second, second, third, third]) each?.end(false);
    always(b);
    use?.end(false);
    assert.ok(new Set(firsts(balancer, [a, b], 'least-connections', 50)).size > 0);
  });

  it('counts nothing for a service that is balanced in another way', () => {
    const [a] = some(1) as [Endpoint];
    const balancer = balancerWith(6);
    for (const other of [{ balancing: 'round-robin' }, { balancing: 'random' }] as const) {
      assert.equal(balancer.begin(a, { service: web, policy: other }), null);
    }
    assert.equal(balancer.begin(a, { service: { ...web, isSticky: true }, policy: null }), null);
    assert.equal(balancer.begin(a, { service: null, policy: null }), null);
    for (const none of [null, {}]) assert.notEqual(balancer.begin(a, { service: web, policy: none }), null);
  });

  it('does not send everything to an endpoint that refuses at once, and tries it again after ten seconds', () => {
    let nowMs = 0;
    const endpoints = some(4);
    const [dead] = endpoints as [Endpoint];
    const balancer = balancerWith(7, () => nowMs);
    const alive = new Map<Endpoint, EndpointUse | null>();
    let triedDead = 0;
    for (let i = 0; i < 4000; i++) {
      // 100 connections a second for 40 s; those that live stay open.
      nowMs = i * 10;
      const order = balancer.order(destination(endpoints), dial('least-connections'));
      for (const endpoint of order) {
        const use = balancer.begin(endpoint, of);
        if (endpoint !== dead) {
          alive.set(endpoint, use);
          break;
        }
        triedDead++;
        use?.end(true);
      }
    }
    assert.ok(triedDead >= 2, `tried again: ${triedDead}`);
    assert.ok(triedDead <= 5, `${triedDead} of 4000 connections went to the dead endpoint first`);
    assert.equal(alive.size, 3);
  });

  it('knows nothing of a new workload at the address of one that could not be reached', () => {
    const address = { ip: ip('198.18.0.1'), port: 8080 };
    const named = (name: string): Endpoint => ({ workload: workload(`shop/${name}`, [address.ip]), address });
    const [other] = some(1) as [Endpoint];
    const loads = new EndpointLoads({ nowMs: () => 5 });
    loads.begin(named('gone')).end(true);
    loads.begin(other);
    assert.equal(loads.isLighter([other, named('gone')], 0, 1), true);
    assert.equal(loads.isLighter([named('heir'), other], 0, 1), true);
  });

  it('goes by the numbers where no endpoint could be reached', () => {
    const [a, b] = some(2) as [Endpoint, Endpoint];
    const loads = new EndpointLoads({ nowMs: () => 5 });
    for (const endpoint of [a, b]) loads.begin(endpoint).end(true);
    const use = loads.begin(a);
    assert.deepEqual([loads.isLighter([a, b], 0, 1), loads.isLighter([a, b], 1, 0)], [false, true]);
    use.end(false);
  });

  it('forgets endpoints that are in use no more', () => {
    let nowMs = 0;
    const loads = new EndpointLoads({ nowMs: () => nowMs });
    const kept = some(1)[0]!;
    const use = loads.begin({ ...kept, address: { ...kept.address, port: 1 } });
    for (const [index, endpoint] of some(20_000).entries()) {
      nowMs = index * 10;
      loads.begin(endpoint).end(index % 2 === 0);
    }
    assert.ok(loads.size < 4096, `${loads.size} entries`);
    use.end(false);
  });
});

it('draws of many without looking at all of them, also from a source of chance that repeats itself', () => {
  const endpoints = some(1000);
  let asked = 0;
  assert.equal(new Set(drawn(endpoints, { count: 3, random: () => (asked++, 0.5), isUsable: null })).size, 3);
  assert.ok(asked < 100);
});
