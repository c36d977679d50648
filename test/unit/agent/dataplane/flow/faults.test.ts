import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { refused } from '../../../../../agent/dataplane/connection/ending.js';
import type { RouteFaults, TrafficRoute } from '../../../../../shared/policy/traffic-documents.js';
import { registryKey, type RegistryEntry } from '../../../../../shared/routing/registry-entry.js';
import { elsewhere, OutboundWorld } from '../../../../support/agent/outbound-world.js';
import { snapshotOf } from '../../../../support/rules/policy-fixture.js';

const [a, b] = [elsewhere('a', '198.18.0.1'), elsewhere('b', '198.18.0.2')] as const;
const of = 'VirtualService/shop/web spec.tcp[0]';
const always = { percent: 100 };
const denyAll = snapshotOf({ rules: [{ action: 'deny', from: [{}], to: [{}] }] }).rules;

/** A world whose tunnels end at once, and where they led. `nowMs`: of the agent's clock. */
function world(
  faults: RouteFaults,
  more: { readonly route?: Partial<TrafficRoute>; readonly nowMs?: number; readonly endpoints?: RegistryEntry[] } = {},
) {
  const seen: string[] = [];
  const open = ({ destinationIp }: { readonly destinationIp: string }) => {
    seen.push(destinationIp);
    return refused('PEER_RESET', 'reached');
  };
  const made = new OutboundWorld({ endpoints: more.endpoints ?? [a], open, nowMs: () => more.nowMs ?? 1000 });
  const route = { matches: [], choices: [{ subset: null, weight: 1 }], faults, ...more.route };
  const host = 'web.shop.svc.cluster.local';
  const documents = { virtualServices: [{ namespace: 'shop', name: 'web', host, routes: [route] }] };
  made.use(documents);
  return { made, seen, documents };
}

/** How a connection of a world ended, and which faults its record has. */
async function ended(...of: Parameters<typeof world>) {
  const { made, seen } = world(...of);
  using _ = made;
  const fromMs = performance.now();
  const { connection, ended: end } = made.connect();
  const how = await end;
  const { faults = [], destination } = connection.record.close(refused('OK'));
  return { how, faults, seen, destination, ms: performance.now() - fromMs, throttles: connection.throttles };
}

describe('a connection with a fault', () => {
  it('waits before it is connected', async () => {
    const { how, faults, seen, ms } = await ended({ delay: { ...always, delayMs: 40 } });
    assert.deepEqual([how, faults, seen], ['PEER_RESET reached', ['delay'], ['198.18.0.1']]);
    assert.ok(ms >= 38, `${ms} ms`);
  });

  it('is refused, and nothing is sent to its endpoint, which its record names', async () => {
    const { how, faults, seen, destination } = await ended({ abort: always });
    assert.deepEqual([how, faults, seen], [`FAULT_INJECTED fault.abort of ${of}`, ['abort'], []]);
    assert.equal(destination.workload, 'shop/a');
  });

  it('waits first, where it is also refused', async () => {
    const { how, faults, ms } = await ended({ delay: { ...always, delayMs: 40 }, abort: always });
    assert.match(how, /^FAULT_INJECTED/);
    assert.deepEqual(faults, ['delay', 'abort']);
    assert.ok(ms >= 38, `${ms} ms`);
  });

  it('is bounded each way', async () => {
    const { how, faults, throttles } = await ended({ throttle: { ...always, bytesPerSecond: 1000 } });
    assert.deepEqual([how, faults], ['PEER_RESET reached', ['throttle']]);
    for (const throttle of [throttles?.source, throttles?.destination]) {
      const waitMs = throttle?.spend(2050) ?? 0;
      // A twentieth of a second may be ahead.
      assert.ok(Math.abs(waitMs - 2000) < 50, `${waitMs} ms`);
    }
  });

  it('has none by chance, none that has expired by the clock of the agent, and none of another route', async () => {
    const all = (share: { percent: number; expiresAtMs?: number }) => ({
      delay: { ...share, delayMs: 60_000 },
      abort: share,
      throttle: { ...share, bytesPerSecond: 1 },
    });
    for (const faults of [all({ percent: 0 }), all({ percent: 100, expiresAtMs: 1000 })]) {
      const { how, faults: recorded, throttles } = await ended(faults);
      assert.deepEqual([how, recorded, throttles], ['PEER_RESET reached', [], null]);
    }
    const notYet = await ended({ abort: { percent: 100, expiresAtMs: 1000 } }, { nowMs: 999 });
    assert.match(notYet.how, /^FAULT_INJECTED/);
    const { how } = await ended(all(always), { route: { matches: [{ sourceNamespace: 'other' }] } });
    assert.equal(how, 'PEER_RESET reached');
  });

  it('is refused by the rules as without it, at once', async () => {
    const { made, seen, documents } = world({ delay: { ...always, delayMs: 60_000 }, abort: always });
    using _ = made;
    made.use({ ...documents, rules: denyAll });
    const { connection, ended: end } = made.connect();
    assert.match(await end, /^POLICY_DENY /);
    assert.deepEqual([seen, connection.record.close(refused('OK')).faults], [[], undefined]);
  });

  it('is cut when the rules deny it while it waits', async () => {
    const { made, seen, documents } = world({ delay: { ...always, delayMs: 60_000 } });
    using _ = made;
    const { connection, ended: end } = made.connect();
    made.use({ ...documents, rules: denyAll });
    connection.recheck(made.state);
    assert.match(await end, /^POLICY_TERMINATED /);
    assert.deepEqual(seen, []);
  });

  it('waits no longer than timeout of the route lets connecting take, and no endpoint is blamed', async () => {
    const { how, seen, ms } = await ended({ delay: { ...always, delayMs: 60_000 } }, { route: { timeoutMs: 30 } });
    assert.equal(how, `CONNECT_TIMEOUT fault.delay of ${of} is longer than its timeout`);
    assert.deepEqual(seen, []);
    assert.ok(ms < 5000, `${ms} ms`);
  });

  it('goes to another endpoint when the one that was chosen has left while it waited', async () => {
    const { made, seen } = world({ delay: { ...always, delayMs: 40 } });
    using _ = made;
    const { ended: end } = made.connect();
    made.state.registry.apply({ image: null, upserts: [b], removals: [registryKey(a)] });
    assert.equal(await end, 'PEER_RESET reached');
    assert.deepEqual(seen, ['198.18.0.2']);
  });

  it('goes on to the next of its endpoints when the first has left while it waited', async () => {
    const { made, seen } = world({ delay: { ...always, delayMs: 40 } }, { endpoints: [a, b] });
    using _ = made;
    const { connection, ended: end } = made.connect();
    const [first, other] = connection.record.destination.workload === 'shop/a' ? [a, '198.18.0.2'] : [b, '198.18.0.1'];
    made.state.registry.apply({ image: null, upserts: [], removals: [registryKey(first)] });
    assert.equal(await end, 'PEER_RESET reached');
    assert.deepEqual(seen, [other]);
  });
});
