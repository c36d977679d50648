import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EndpointBalancer } from '../../../../agent/dataplane/balance/endpoint-balancer.js';
import { stickyOrder } from '../../../../shared/routing/sticky-order.js';
import type { Endpoint } from '../../../../shared/routing/destination.js';
import { ip, service } from '../../../support/routing/registry-entries.js';

const endpoints: readonly Endpoint[] = Array.from({ length: 10 }, (_, count) => ({
  workload: null,
  address: { ip: ip(`198.18.0.${count + 1}`), port: 8080 },
}));
const clients = Array.from({ length: 2000 }, (_, count) => ip(`10.${count >> 8}.${count & 255}.7`));
const firstFor = (client: (typeof clients)[number], of = endpoints): string =>
  stickyOrder(of, client, 1)[0]!.address.ip;

test('the order of a client does not depend on that of the endpoints, and has each once', () => {
  const [client] = clients;
  assert.ok(client);
  const order = stickyOrder(endpoints, client, endpoints.length);
  assert.deepEqual(stickyOrder(endpoints.toReversed(), client, endpoints.length), order);
  for (let count = 0; count < 12; count++)
    assert.deepEqual(stickyOrder(endpoints, client, count), order.slice(0, count));
  assert.equal(new Set(order).size, endpoints.length);
});

test('clients are spread over the endpoints', () => {
  const counts = new Map<string, number>();
  for (const client of clients) counts.set(firstFor(client), (counts.get(firstFor(client)) ?? 0) + 1);
  assert.equal(counts.size, 10);
  // 200 each; more than five standard deviations away would be a bad hash.
  for (const [endpoint, count] of counts) assert.ok(count > 130 && count < 270, `${endpoint}: ${count}`);
});

test('only the clients of an endpoint that goes move', () => {
  const [gone, ...rest] = endpoints;
  for (const client of clients) {
    const before = firstFor(client);
    if (before !== gone?.address.ip) assert.equal(firstFor(client, rest), before);
  }
});

test('a sticky service has the same endpoint for every connection of a client', () => {
  const balancer = new EndpointBalancer({ random: Math.random, nowMs: () => 0 });
  const [client] = clients;
  assert.ok(client);
  const sticky = { kind: 'service', service: { ...service('shop/web', []), isSticky: true }, endpoints } as const;
  const firsts = new Set(
    Array.from(
      { length: 20 },
      () => balancer.order(sticky, { dialledPort: 80, client, policy: null, atMost: 3 })[0]?.address.ip,
    ),
  );
  assert.deepEqual([...firsts], [firstFor(client)]);
});
