import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { StateDisk } from '../../../../controller/nats/state-disk.js';
import { StoreWatch } from '../../../../controller/nats/store-watch.js';
import type { Bus } from '../../../../shared/bus/bus.js';
import { CulvertError } from '../../../../shared/errors.js';
import { patientMs } from '../../../lab/patience.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { smallDisk } from '../../../support/controller/small-disk.js';
import { NatsFixture } from '../../../support/bus/bus-fixture.js';

const create = { history: 1, maxBytes: -1, replicas: 1 } as const;
const times = { checkEveryMs: 200, answerWithinMs: 1500, hungAfterMs: 2000, restartEveryMs: 3000 };

/** A watch over the server, and a bus on it that does not ask the watch before it writes: a full disk hangs the server. */
async function startWatch(nats: NatsFixture, directory: string) {
  const { server } = nats;
  const watch = new StoreWatch({
    log: silentLog,
    times,
    server: {
      disk: new StateDisk({ directory }),
      isRunning: () => server.pid !== undefined,
      restart: (why) => server.restart(why),
    },
  });
  const stop = new AbortController();
  const bus = await nats.controller();
  const watching = watch.run(bus, stop.signal);
  return {
    watch,
    bus,
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await watching;
    },
  };
}

/** Writes until the store takes no more. */
async function writeUntilRefused(bus: Bus): Promise<void> {
  const bucket = await bus.bucket('b');
  for (let i = 0; i < 50; i++) {
    const wasWritten = await bucket.put(`k${i}`, Buffer.alloc(100_000, i)).then(
      () => true,
      () => false,
    );
    if (!wasWritten) return;
  }
  assert.fail('a full disk took 5 MB');
}

test(
  'a store that hangs after its disk was full is named, and works again by itself when there is room',
  { timeout: patientMs(90_000) },
  async () => {
    await using disk = await smallDisk('30m');
    await using nats = await NatsFixture.start(disk.path);
    await using running = await startWatch(nats, disk.path);
    const { watch, bus } = running;
    // A stream hangs only when it holds something: the first write of an empty one just fails.
    await (await bus.bucket('b', { create })).put('first', Buffer.from('1'));
    await bus.ensureStream({
      name: 'OTHER',
      subjects: ['other'],
      maxAgeMs: 0,
      maxBytes: 1_000_000,
      whenFull: 'drop oldest',
    });
    await disk.fill();
    await writeUntilRefused(bus);
    const named = await eventually('the problem is named', () => Promise.resolve(watch.problem ?? undefined));
    assert.equal(named.name, 'disk');
    assert.match(named.detail, /^the disk is full: .* \(free space \(df\)/);
    await assert.rejects(watch.guard.beforeWriting(10), { code: 'DISK_FULL' });
    const explained = await watch.guard.explain(new CulvertError({ code: 'BUS_TIMEOUT', message: 'no answer' }));
    assert.equal(explained.code, 'DISK_FULL');

    await disk.free();
    let refusal: unknown = null;
    const again = async () => {
      refusal = watch.problem;
      if (refusal !== null) return undefined;
      return await (await bus.bucket('b')).put('again', Buffer.alloc(100_000)).catch((error: unknown) => {
        refusal = error;
        return undefined;
      });
    };
    await eventually('the store takes a write', again).catch((error: unknown) => {
      console.error(refusal, `${nats.server.restarts} restarts`, nats.logLines.slice(-20).join(''));
      throw error;
    });
    assert.equal(nats.server.restarts, 1, 'nats-server was restarted once');
  },
);

test(
  'a nats-server that runs and answers nothing is restarted, and says why',
  { timeout: patientMs(60_000) },
  async () => {
    await using nats = await NatsFixture.start();
    await using running = await startWatch(nats, join(nats.stateDir, 'nats'));
    const { bus } = running;
    await bus.bucket('b', { create });
    process.kill(nats.server.pid ?? assert.fail(), 'SIGSTOP');
    await eventually('the store takes a write', async () => {
      if (nats.server.restarts === 0) return undefined;
      return await (await bus.bucket('b')).put('again', Buffer.of(1)).catch(() => undefined);
    });
    assert.ok(nats.logLines.some((line) => line.includes('ended nats-server; starting it again')));
    await eventually('it says that all is well', async () => (running.watch.problem === null ? true : undefined));
  },
);

test('a store that answers is left alone, and a stream that is deleted meanwhile is no failure', async () => {
  await using nats = await NatsFixture.start();
  const bus = await nats.controller();
  for (let i = 0; i < 20; i++) await bus.checkStore({ timeoutMs: 5000 });
  await bus.bucket('b', { create });
  await bus.checkStore({ timeoutMs: 5000 });
  assert.equal(nats.server.restarts, 0);
});
