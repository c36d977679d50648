import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { whenArrived } from '../../../../../agent/dataplane/flow/when-arrived.js';
import { Arrivals, type Awaited } from '../../../../../agent/dataplane/state/arrivals.js';
import { workloadNamed } from '../../../../support/routing/names.js';
import { ip } from '../../../../support/routing/registry-entries.js';

const [web, db] = [workloadNamed('shop/web'), workloadNamed('shop/db')];

/** A workload that is ready when the test says so, and connections to it, by number, in the order in which they go on. */
function world() {
  const context = { arrivals: new Arrivals() };
  const wentOn: number[] = [];
  const state = { isReady: false };
  const connect = (number: number, workload: Awaited = web): TerminationSignal => {
    const signal = new TerminationSignal();
    void whenArrived(context, { workload, signal, isReady: () => state.isReady }).then(() => wentOn.push(number));
    return signal;
  };
  return { wentOn, state, connect, context };
}

/** A clock that moves only when a test moves it: timers and `performance.now()` alike. */
function fakeTime(): { pass: (ms: number) => Promise<void>; [Symbol.dispose]: () => void } {
  let nowMs = 5000;
  const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  mock.timers.enable({ apis: ['setTimeout'] });
  mock.method(performance, 'now', () => nowMs);
  return {
    pass: async (ms) => {
      await settled();
      for (let step = 0; step < ms; step++) {
        nowMs++;
        mock.timers.tick(1);
        await settled();
      }
    },
    [Symbol.dispose]: () => {
      mock.timers.reset();
      mock.restoreAll();
    },
  };
}

test('connections that wait go on in the order in which they came, and a later one behind them', async () => {
  using time = fakeTime();
  const { wentOn, state, connect } = world();
  // Each 7 ms after the one before it: with a look of its own for each, those that came last would often be first.
  for (let number = 0; number < 9; number++) {
    connect(number);
    await time.pass(7);
  }
  state.isReady = true;
  connect(9);
  await time.pass(1);
  connect(10);
  await time.pass(40);
  assert.deepEqual(wentOn, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test('connections wait for a workload for two seconds in all, then no more, and again once it was ready', async () => {
  using time = fakeTime();
  const { wentOn, state, connect } = world();
  connect(0);
  await time.pass(1500);
  connect(1);
  await time.pass(480);
  assert.deepEqual(wentOn, []);
  await time.pass(40);
  assert.deepEqual(wentOn, [0, 1], 'the later one has not waited longer');
  connect(2);
  await time.pass(0);
  assert.deepEqual(wentOn, [0, 1, 2], 'it is not about to come');
  state.isReady = true;
  connect(3);
  await time.pass(0);
  assert.deepEqual(wentOn, [0, 1, 2, 3]);
  state.isReady = false;
  connect(4);
  await time.pass(1000);
  assert.deepEqual(wentOn, [0, 1, 2, 3], 'it was ready, left and comes again');
  state.isReady = true;
  await time.pass(20);
  assert.deepEqual(wentOn, [0, 1, 2, 3, 4]);
});

test('what was waited for in vain is forgotten, and a new workload at its address is waited for', async () => {
  using time = fakeTime();
  const { wentOn, state, connect, context } = world();
  const addresses = ['198.18.0.1', '198.18.0.2'].map((text) => ip(text));
  for (const [number, address] of addresses.entries()) connect(number, address);
  await time.pass(2100);
  connect(2, addresses[0]);
  await time.pass(0);
  assert.deepEqual([wentOn, context.arrivals.size], [[0, 1, 2], 2]);
  await time.pass(28_000);
  connect(3, addresses[0]);
  await time.pass(0);
  assert.deepEqual([wentOn, context.arrivals.size], [[0, 1, 2], 1]);
  state.isReady = true;
  await time.pass(20);
  assert.deepEqual([wentOn, context.arrivals.size], [[0, 1, 2, 3], 0]);
});

test('each workload is waited for by itself', async () => {
  using time = fakeTime();
  const { wentOn, connect } = world();
  connect(0);
  await time.pass(1500);
  connect(1, db);
  await time.pass(1000);
  assert.deepEqual(wentOn, [0]);
  await time.pass(1100);
  assert.deepEqual(wentOn, [0, 1]);
});

test('a connection that is cut goes on at once, and keeps its place from no other', async () => {
  using time = fakeTime();
  const { wentOn, state, connect } = world();
  const first = connect(0);
  connect(1);
  await time.pass(5);
  first.raise(new ConnectionCut({ reason: 'CLIENT_RESET' }));
  await time.pass(0);
  assert.deepEqual(wentOn, [0]);
  state.isReady = true;
  await time.pass(40);
  assert.deepEqual(wentOn, [0, 1]);
});
