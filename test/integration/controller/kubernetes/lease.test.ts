import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { Lease } from '../../../../controller/kubernetes/lease.js';
import type { CulvertError } from '../../../../shared/errors.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { patience } from '../../../lab/patience.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

const leases = '/apis/coordination.k8s.io/v1/namespaces/culvert-system/leases';
/** A request may take a fraction of it, also on a busy machine. */
const durationMs = 3000 * Math.min(6, Math.ceil(patience()));
let server: FakeApiServer;
let api: KubernetesApi;
let started: Lease[] = [];

before(async () => {
  server = await FakeApiServer.start();
  api = new KubernetesApi({ url: server.url, caFile: server.caFile, tokenFile: server.tokenFile });
});
after(async () => {
  await Promise.all(started.map((each) => each[Symbol.asyncDispose]()));
  api.close();
  await server[Symbol.asyncDispose]();
});
beforeEach(async () => {
  server.status = null;
  server.isSilent = false;
  await Promise.all(started.map((each) => each[Symbol.asyncDispose]()));
  started = [];
  // As `culvert install` makes it, and as one that was given back.
  server.put(leases, { metadata: { namespace: 'culvert-system', name: 'own' }, spec: { renewTime: 'x' } });
});

type Clock = { nowMs: number };

/** `clock`: what the process takes for the time since the boot; absent: the real one. */
function lease(identity: string, clock?: Clock, state: string | null = null): Lease {
  const common = { api, namespace: 'culvert-system', name: 'own', durationMs, log: silentLog };
  const init = { ...common, identity, stateId: () => Promise.resolve(state) };
  const own = new Lease({ ...init, ...(clock === undefined ? {} : { elapsedMs: () => clock.nowMs }) });
  started.push(own);
  return own;
}

function holder(): unknown {
  const { spec } = server.get(leases, 'culvert-system/own') as unknown as { spec: { holderIdentity?: string } };
  return spec.holderIdentity;
}

function isLost(own: Lease): Promise<CulvertError | null> {
  return Promise.race([own.lost, new Promise<null>((resolve) => setImmediate(() => resolve(null)))]);
}

test('one has it, and the next one when it is given back, at once', async () => {
  const [first, second] = [lease('a'), lease('b')];
  assert.equal(await first.tryToHold(), null);
  assert.equal(holder(), 'a');
  assert.equal(await second.tryToHold(), 'a has it');
  await first[Symbol.asyncDispose]();
  assert.equal(holder(), undefined);
  assert.equal(await second.tryToHold(), null);
  assert.equal(holder(), 'b');
});

test('of many that try at the same moment one gets it', async () => {
  const all = Array.from({ length: 8 }, (_, index) => lease(`p${index}`));
  const outcomes = await Promise.all(all.map((each) => each.tryToHold()));
  assert.equal(outcomes.filter((outcome) => outcome === null).length, 1);
});

test('it is renewed while it is held, and one that waits does not get it', async () => {
  const [first, second] = [lease('a'), lease('b')];
  await first.tryToHold();
  const until = performance.now() + 2 * durationMs;
  while (performance.now() < until) {
    assert.equal(await second.tryToHold(), 'a has it');
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.equal(await isLost(first), null);
});

test('the API server is away for longer than it lasts: the holder gives up first, and then another gets it', async () => {
  const [first, second] = [lease('a'), lease('b')];
  await first.tryToHold();
  assert.equal(await second.tryToHold(), 'a has it');
  server.isSilent = true;
  const error = await first.lost;
  assert.equal(error.code, 'LEASE_LOST');
  assert.match(error.message, /could not be renewed in time/);
  server.isSilent = false;
  assert.equal(await second.tryToHold(), 'a has it', 'two thirds of the time have passed');
  await eventually('the other gets it', async () => ((await second.tryToHold()) === null ? true : undefined));
  assert.equal(holder(), 'b');
});

test('a holder that another has replaced gives up when it sees that', async () => {
  const first = lease('a');
  await first.tryToHold();
  server.put(leases, {
    metadata: { namespace: 'culvert-system', name: 'own' },
    spec: { holderIdentity: 'b', renewTime: 'y', leaseDurationSeconds: durationMs / 1000 },
  });
  assert.match((await first.lost).message, /lost the lease: b has it/);
  assert.equal(holder(), 'b');
});

test('a holder that stood still gives up before it does anything else', async () => {
  const clock = { nowMs: 1000 };
  const first = lease('a', clock);
  await first.tryToHold();
  clock.nowMs += durationMs;
  assert.match((await first.lost).message, /stood still|could not be renewed/);
  assert.equal(holder(), 'a', 'it has not renewed it');
});

test('clocks of other machines do not count: only how long nothing changed, by the own one', async () => {
  const clock = { nowMs: 5_000_000 };
  const second = lease('b', clock);
  const held = (renewTime: string): void =>
    server.put(leases, {
      metadata: { namespace: 'culvert-system', name: 'own' },
      spec: { holderIdentity: 'a', leaseDurationSeconds: durationMs / 1000, renewTime },
    });
  // The holder's clock is years behind, and then years ahead.
  for (const renewTime of ['1999-01-01T00:00:00.000000Z', '2099-01-01T00:00:00.000000Z']) {
    held(renewTime);
    assert.equal(await second.tryToHold(), 'a has it');
    clock.nowMs += durationMs - 1;
    assert.equal(await second.tryToHold(), 'a has it');
  }
  clock.nowMs += 1;
  assert.equal(await second.tryToHold(), null);
});

test('one that says nothing is waited for as one that is held: it may have been deleted and made again', async () => {
  const clock = { nowMs: 7 };
  server.put(leases, { metadata: { namespace: 'culvert-system', name: 'own' }, spec: {} });
  const first = lease('a', clock);
  assert.equal(await first.tryToHold(), 'it is new');
  clock.nowMs += durationMs;
  assert.equal(await first.tryToHold(), null);
});

test('a lease that is missing, or an API server that refuses, says so and gives nothing', async () => {
  const first = lease('a');
  server.remove(leases, 'culvert-system/own');
  assert.match((await first.tryToHold()) ?? '', /404/);
  server.status = 403;
  assert.match((await first.tryToHold()) ?? '', /403/);
});

function tiedTo(): unknown {
  const { metadata } = server.get(leases, 'culvert-system/own') as unknown as {
    metadata: { annotations?: Record<string, string> };
  };
  return metadata.annotations?.['culvert.dev/state'];
}

test('it belongs to the state of its first holder: another state or an empty one does not get it, also when it is free', async () => {
  const first = lease('a');
  assert.equal(await first.tryToHold(), null);
  assert.equal(await first.tryToTie('s1'), null);
  assert.equal(tiedTo(), 's1');
  for (const [state, said] of [
    ['s2', /belongs to the state s1, and this is the state s2/],
    [null, /belongs to the state s1, and the state directory has no id/],
  ] as const) {
    const refused = { code: 'LEASE_OF_OTHER_STATE', message: said, hint: /annotate lease own culvert\.dev\/state-$/ };
    await assert.rejects(lease('b', undefined, state).tryToHold(), refused, 'while it is held');
  }
  await first[Symbol.asyncDispose]();
  await assert.rejects(lease('c').tryToHold(), { code: 'LEASE_OF_OTHER_STATE' });
  assert.equal(holder(), undefined);
  const next = lease('d', undefined, 's1');
  assert.equal(await next.tryToHold(), null);
  assert.equal(await next.tryToTie('s1'), null);
});

test('a tie that was taken back goes to the next state; one that does not hold it ties nothing', async () => {
  const first = lease('a', undefined, 's2');
  assert.equal(await first.tryToTie('s2'), 'no controller has it');
  assert.equal(tiedTo(), undefined);
  await first.tryToHold();
  assert.equal(await first.tryToTie('s2'), null);
  assert.equal(tiedTo(), 's2');
  await assert.rejects(first.tryToTie('s3'), { code: 'LEASE_OF_OTHER_STATE' });
});
