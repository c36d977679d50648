import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { StateDisk } from '../../../../controller/nats/state-disk.js';
import { StoreWatch } from '../../../../controller/nats/store-watch.js';
import type { Bus } from '../../../../shared/bus/bus.js';
import { CulvertError } from '../../../../shared/errors.js';
import { eventually, silentLog, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

const times = { answerWithinMs: 60, hungAfterMs: 60_000, restartEveryMs: 20 };

/** A watch over a store whose streams tell their state, and why it restarted. `own`: the server is the controller's. */
async function watched({ own, checkEveryMs = 20 }: { readonly own: boolean; readonly checkEveryMs?: number }) {
  const directory = await temporaryDirectory();
  const restarts: string[] = [];
  let checks = 0;
  let isAnswering = true;
  const disk = new StateDisk({ directory: directory.path });
  const restart = async (why: string): Promise<void> => void restarts.push(why);
  const watch = new StoreWatch({
    log: silentLog,
    times: { ...times, checkEveryMs },
    server: own ? { disk, isRunning: () => true, restart } : null,
  });
  const stop = new AbortController();
  const checkStore = async (): Promise<void> => {
    checks += 1;
    if (!isAnswering)
      throw new CulvertError({ code: 'BUS_TIMEOUT', message: 'cannot read JetStream: no answer in time' });
  };
  const bus = { status: 'connected', checkStore } as unknown as Bus;
  const running = watch.run(bus, stop.signal);
  return {
    watch,
    restarts,
    answer: (isPossible: boolean): void => void (isAnswering = isPossible),
    /** Resolves after as many checks as can follow from what was before. */
    checked: async (): Promise<void> => {
      const from = checks;
      await eventually('more checks', async () => (checks > from + 3 ? true : undefined));
    },
    /** Writes that fail, for longer than an answer may take. */
    failWrites: async (bucket: string, error: CulvertError): Promise<void> => {
      const from = performance.now();
      for (let count = 0; count < 3 || performance.now() - from <= times.answerWithinMs; count++) {
        await watch.guard.explain(error, bucket);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await running;
      await directory[Symbol.asyncDispose]();
    },
  };
}

const timeout = new CulvertError({ code: 'BUS_TIMEOUT', message: 'cannot write k in the bucket b: no answer in time' });
const full = (text: string) =>
  new CulvertError({ code: 'BUS_STORE_FULL', message: `cannot write k in the bucket b: ${text}` });

describe('the watch over a store whose streams tell their state', () => {
  for (const error of [timeout, full('write /s/b/1.blk: no space left on device')]) {
    it(`restarts nats-server when writes fail again and again (${error.message})`, async () => {
      await using store = await watched({ own: true });
      await store.failWrites('b', error);
      await eventually('a restart', async () => store.restarts[0]);
      assert.deepEqual(store.restarts, [`nats-server takes no writes: ${error.message}`]);
      await store.checked();
      assert.equal(store.restarts.length, 1, 'what failed before a restart counts no more');
      assert.equal(store.watch.problem, null);
    });
  }

  it('leaves nats-server alone when a limit of its settings is reached', async () => {
    await using store = await watched({ own: true });
    await store.failWrites('b', full('maximum bytes exceeded'));
    await store.failWrites('b', full('insufficient storage resources available'));
    await store.checked();
    assert.deepEqual(store.restarts, []);
  });

  it('leaves it alone when a write succeeds between those that fail, and when reads fail', async () => {
    await using store = await watched({ own: true });
    const from = performance.now();
    while (performance.now() - from < 3 * times.answerWithinMs) {
      for (const _ of [1, 2]) await store.watch.guard.explain(timeout, 'b');
      store.watch.guard.written('b');
      for (const _ of [1, 2]) await store.watch.guard.explain(timeout, 'c');
      store.watch.guard.written('c');
      await store.watch.guard.explain(timeout);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await store.checked();
    assert.deepEqual(store.restarts, []);
  });

  it('leaves it alone when several writes fail at one moment', async () => {
    await using store = await watched({ own: true });
    await Promise.all(Array.from({ length: 20 }, () => store.watch.guard.explain(timeout, 'b')));
    store.watch.guard.written('b');
    await store.checked();
    assert.deepEqual(store.restarts, []);
  });

  it("names the operator's store, refuses writes for a while, and lets them try again", async () => {
    await using store = await watched({ own: false, checkEveryMs: 1000 });
    await store.failWrites('b', timeout);
    const problem = await eventually('the problem is named', async () => store.watch.problem ?? undefined);
    assert.equal(problem.name, 'nats-store');
    assert.match(problem.detail, /takes no writes: cannot write k .* NATS servers/);
    await eventually('writes are let through again', async () => {
      const refused = await store.watch.guard.beforeWriting(10).catch((error: CulvertError) => error);
      if (refused !== undefined) assert.equal(refused.code, 'STORE_STUCK');
      return refused === undefined ? true : undefined;
    });
  });

  it("names the operator's store for as long as it does not answer", async () => {
    await using store = await watched({ own: false });
    store.answer(false);
    await eventually('the problem is named', async () => store.watch.problem ?? undefined);
    await store.checked();
    assert.match(store.watch.problem?.detail ?? '', /^the store of nats-server does not answer \(look for a full/);
    await assert.rejects(store.watch.guard.beforeWriting(10), { code: 'STORE_STUCK' });
    store.answer(true);
    await eventually('it is well', async () => (store.watch.problem === null ? true : undefined));
    await store.watch.guard.beforeWriting(10);
  });
});
