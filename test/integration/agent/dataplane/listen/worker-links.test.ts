import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import { Reactor } from '../../../../../agent/dataplane/io/reactor.js';
import { WorkerLinks, type PassedConnection } from '../../../../../agent/dataplane/listen/worker-links.js';
import type { ApplicationSocket } from '../../../../../agent/dataplane/relay/application-socket.js';
import { patientMs, patientSignal } from '../../../../lab/patience.js';
import { acceptedPair } from '../../../../support/agent/application-pair.js';
import { withDeadline } from '../../../../support/tunnel/tunnel-pair.js';
import { workloadNamed } from '../../../../support/routing/names.js';

const passed: PassedConnection = {
  entry: 'outbound',
  workload: workloadNamed('shop/web'),
  captured: { kind: 'unreadable', dialled: null, client: null, hasLeft: false, detail: '' },
  key: 'web to db',
};

/** One worker's end, and what happened at it. */
class End {
  readonly sockets: ApplicationSocket[] = [];
  readonly openings: (() => void)[] = [];
  readonly events: string[] = [];
  readonly links = new WorkerLinks({
    onConnection: ({ key }, socket, opened) => {
      this.events.push(`took ${key}`);
      this.sockets.push(socket);
      this.openings.push(opened);
    },
    onTunnel: ({ workload }) => this.events.push(`took a tunnel of ${workload}`),
    onFailed: ({ key }, code) => this.events.push(`failed ${key}: ${code}`),
    onOpened: (key) => this.events.push(`opened ${key}`),
    onLost: (workerIndex) => this.events.push(`lost ${workerIndex}`),
  });
}

/** How it looks to a client: `end`, or an error's code. */
async function endOf(client: net.Socket): Promise<string> {
  const seen = new Promise<string>((resolve) => {
    client.resume().on('end', () => resolve('end'));
    client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
  });
  return await withDeadline('the end of the connection', seen, 10_000);
}

describe('a connection that one worker passes to another', () => {
  let client: net.Socket;
  let accepted: ApplicationSocket;
  const near = new End();
  const far = new End();
  const { port1, port2 } = new MessageChannel();
  let counts: { takenByOther: SharedArrayBuffer; takenHere: SharedArrayBuffer };

  beforeEach(async () => {
    [client, accepted] = await acceptedPair();
    counts = { takenByOther: new SharedArrayBuffer(4), takenHere: new SharedArrayBuffer(4) };
  });

  afterEach(() => {
    client.destroy();
    for (const socket of [accepted, ...far.sockets]) socket.close();
  });

  test('is served there as if it had been accepted there', async () => {
    near.links.add({ type: 'link', workerIndex: 1, port: port1, ...counts });
    const its = { takenByOther: counts.takenHere, takenHere: counts.takenByOther };
    far.links.add({ type: 'link', workerIndex: 0, port: port2, ...its });
    assert.equal(near.links.pass(2, passed, accepted), false);
    client.write('hello');
    assert.equal(near.links.pass(1, passed, accepted), true);
    assert.ok(accepted.isClosed);
    await once(port2, 'message', { signal: patientSignal(10_000) });
    const [socket] = far.sockets;
    assert.ok(socket !== undefined && socket.isPaused);
    const text = await new Promise<string>((resolve) => {
      const rest = { onDrained() {}, onEnd() {}, onBroken() {}, onGone() {} };
      socket.open({ ...rest, onBytes: (bytes) => resolve(bytes.toString()) });
      socket.resume();
    });
    socket.send(Buffer.from(`${text} to you`));
    socket.end();
    const [answer] = (await once(client, 'data', { signal: patientSignal(10_000) })) as [Buffer];
    assert.equal(answer.toString(), 'hello to you');
    far.openings[0]?.();
    await once(port1, 'message', { signal: patientSignal(10_000) });
    assert.deepEqual([near.events, far.events], [['opened web to db'], ['took web to db']]);
    const closed = once(port1, 'close', { signal: patientSignal(10_000) });
    port2.close();
    await closed;
    assert.deepEqual([near.events.at(-1), near.links.isAlone], ['lost 1', true]);
  });

  test('is reset and told where that worker cannot take it', async (t) => {
    const channel = new MessageChannel();
    const [from, to] = [new End(), new End()];
    from.links.add({ type: 'link', workerIndex: 1, port: channel.port1, ...counts });
    const its = { takenByOther: counts.takenHere, takenHere: counts.takenByOther };
    to.links.add({ type: 'link', workerIndex: 0, port: channel.port2, ...its });
    const reactor = Reactor.ofThread();
    const { calls } = reactor;
    Object.assign(reactor, { calls: { ...calls, ioAdopt: () => -12 } });
    t.after(() => Object.assign(reactor, { calls }));
    const ended = endOf(client);
    assert.equal(from.links.pass(1, passed, accepted), true);
    await once(channel.port1, 'message', { signal: patientSignal(10_000) });
    assert.deepEqual([from.events, to.events], [['opened web to db'], ['failed web to db: ENOMEM']]);
    assert.equal(await ended, 'ECONNRESET');
    const closed = once(channel.port1, 'close', { signal: patientSignal(10_000) });
    channel.port2.close();
    await closed;
  });

  test('is reset when that worker dies before it takes it', async () => {
    const channel = new MessageChannel();
    near.links.add({ type: 'link', workerIndex: 1, port: channel.port1, ...counts });
    assert.equal(near.links.pass(1, passed, accepted), true);
    const ended = endOf(client);
    channel.port2.close();
    assert.equal(await ended, 'ECONNRESET');
    assert.equal(near.events.at(-1), 'lost 1');
  });

  test('stays that worker’s when it had taken it', async () => {
    const channel = new MessageChannel();
    near.links.add({ type: 'link', workerIndex: 1, port: channel.port1, ...counts });
    assert.equal(near.links.pass(1, passed, accepted), true);
    channel.port2.start();
    const [{ fd }] = (await once(channel.port2, 'message', { signal: patientSignal(10_000) })) as [{ fd: number }];
    Atomics.store(new Int32Array(counts.takenByOther), 0, 1);
    const closed = once(channel.port1, 'close', { signal: patientSignal(10_000) });
    channel.port2.close();
    await closed;
    const socket = new net.Socket({ fd });
    socket.end('still open');
    const [answer] = (await once(client, 'data', { signal: patientSignal(10_000) })) as [Buffer];
    assert.equal(answer.toString(), 'still open');
  });

  test('is the last one once that worker has said so, and a drain waits for that', async () => {
    const channel = new MessageChannel();
    near.links.add({ type: 'link', workerIndex: 1, port: channel.port1, ...counts });
    let isFinished = false;
    const finished = near.links.finish(patientMs(60_000)).then(() => (isFinished = true));
    assert.equal(near.links.pass(1, passed, accepted), false);
    const [farewell] = (await once(channel.port2, 'message', { signal: patientSignal(10_000) })) as [unknown];
    assert.deepEqual(farewell, { type: 'last' });
    assert.equal(isFinished, false);
    channel.port2.postMessage({ type: 'last' }, []);
    await finished;
    channel.port2.close();
  });
});
