import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { after, afterEach, test } from 'node:test';
import { IoListener, type Accepted, type ListenerOwner } from '../../../../../agent/dataplane/io/io-listener.js';
import { Reactor, type Turnable } from '../../../../../agent/dataplane/io/reactor.js';
import { closeFd, listenTcp, socketAddresses } from '../../../../../agent/native/addon.js';
import { eventually } from '../../../../support/tunnel/tunnel-pair.js';

const reactor = Reactor.ofThread();
after(() => assert.equal(reactor.timers.size, 0));
afterEach(() => assert.equal(reactor.calls.ioCounts(), 0));

type Listening = { readonly listener: IoListener; readonly port: number; readonly accepted: Accepted[] };

function listen(
  wish: { host?: string; wanted?: 'peer' | 'local' | 'dialled'; mostAtOnce?: number } & Partial<ListenerOwner> = {},
): Listening {
  const { host = '127.0.0.1', wanted, mostAtOnce, ...rest } = wish;
  const fd = listenTcp({ netnsFd: null, host, port: 0, backlog: 64, reusePort: false });
  const { port } = socketAddresses(fd).local;
  const accepted: Accepted[] = [];
  const owner: ListenerOwner = {
    onConnection: (each) => accepted.push(each),
    onExhausted: (code) => assert.fail(code),
    ...rest,
  };
  const options = { owner, ...(wanted === undefined ? {} : { wanted }) };
  const listener = IoListener.adopt(reactor, fd, mostAtOnce === undefined ? options : { ...options, mostAtOnce });
  if (typeof listener === 'string') throw new Error(listener);
  return { listener, port, accepted };
}

async function dial(port: number, count: number, host = '127.0.0.1'): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect({ port, host }).on('error', () => {}));
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  return sockets;
}

/** Connections that wait in the kernel: of a client's that is connected, the last packet may still be on its way. */
function waitingIn(port: number): number {
  const [at, listens] = [port.toString(16).toUpperCase().padStart(4, '0'), '0A'];
  for (const line of readFileSync('/proc/self/net/tcp', 'utf8').split('\n')) {
    const [, local = '', , state, queues = ''] = line.trim().split(/\s+/);
    if (state === listens && local.endsWith(`:${at}`)) return Number.parseInt(queues.split(':')[1] ?? '', 16);
  }
  return 0;
}

function finish(listening: Listening, sockets: readonly Socket[]): void {
  listening.listener.close();
  for (const { handle } of listening.accepted) reactor.calls.ioClose(handle, 0);
  for (const socket of sockets) socket.destroy();
}

for (const host of ['127.0.0.1', '::1'])
  test(`connections to ${host} come with the addresses that were asked for`, async () => {
    for (const wanted of ['peer', 'local', 'dialled'] as const) {
      const listening = listen({ host, wanted });
      const [socket] = await dial(listening.port, 1, host);
      await eventually('the connection', () => listening.accepted.length === 1);
      const [found] = listening.accepted;
      assert.deepEqual(found?.peer, { ip: host, port: socket?.localPort });
      assert.deepEqual(found.local, wanted === 'peer' ? null : { ip: host, port: listening.port });
      assert.equal(found.peerZone, 0);
      // Nothing was redirected.
      assert.equal(typeof found.dialled, 'string');
      finish(listening, [socket as Socket]);
    }
  });

test('an IPv4 peer of a dual-stack listener has its IPv4 address', async () => {
  const listening = listen({ host: '::', wanted: 'local' });
  const sockets = await dial(listening.port, 1);
  await eventually('the connection', () => listening.accepted.length === 1);
  assert.equal(listening.accepted[0]?.peer.ip, '127.0.0.1');
  assert.equal(listening.accepted[0].local?.ip, '127.0.0.1');
  finish(listening, sockets);
});

test('connections begin a few at a time, between the work of others, and none is forgotten', async () => {
  const order: string[] = [];
  const listening = listen({ mostAtOnce: 3 });
  listening.listener.pause();
  const sockets = await dial(listening.port, 10);
  const busy: Turnable = {
    isQueued: false,
    onTurn: () => {
      order.push(`${listening.accepted.length}`);
      if (listening.accepted.length < 10) reactor.queue(busy);
    },
  };
  listening.listener.resume();
  reactor.queue(busy);
  await eventually('all connections', () => listening.accepted.length === 10);
  await eventually('the last turn', () => order.includes('10'));
  const counts = [...new Set(order.map(Number))];
  assert.ok(
    counts.every((count, at) => at === 0 || count - (counts[at - 1] ?? 0) <= 3),
    counts.join(),
  );
  finish(listening, sockets);
});

test('while it is paused connections wait in the kernel, also those of a batch that is under way', async () => {
  const told: Accepted[] = [];
  const listening: Listening = listen({
    onConnection: (each) => {
      told.push(each);
      listening.listener.pause();
    },
  });
  const sockets = await dial(listening.port, 3);
  await eventually('the first', () => told.length === 1);
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  assert.equal(told.length, 1);
  for (const count of [2, 3]) {
    listening.listener.resume();
    await eventually('the next', () => told.length === count);
  }
  for (const { handle } of told) reactor.calls.ioClose(handle, 0);
  finish(listening, sockets);
});

test('what its owner throws loses no other connection, and what was accepted goes with the listener', async () => {
  const thrown: unknown[] = [];
  process.setUncaughtExceptionCaptureCallback((what) => thrown.push(what));
  try {
    const error = new Error('of one connection');
    const told: Accepted[] = [];
    const listening = listen({
      onConnection: (each) => {
        told.push(each);
        throw error;
      },
    });
    const sockets = await dial(listening.port, 3);
    await eventually('all three', () => told.length === 3);
    await eventually('the exceptions', () => thrown.length === 3);
    assert.ok(thrown.every((what) => what === error));
    for (const { handle } of told) reactor.calls.ioClose(handle, 0);
    finish(listening, sockets);
  } finally {
    process.setUncaughtExceptionCaptureCallback(null);
  }
  const listening: Listening = listen({
    onConnection: ({ handle }) => {
      reactor.calls.ioClose(handle, 0);
      listening.listener.close();
      listening.listener.resume();
    },
  });
  // All are there before the first closes the listener.
  listening.listener.pause();
  const sockets = await dial(listening.port, 5);
  await eventually('all five', () => waitingIn(listening.port) === 5);
  listening.listener.resume();
  await eventually('all is closed', () => reactor.calls.ioCounts() === 0);
  finish(listening, sockets);
});

test('without a descriptor left it says so once, does not spin, and goes on by itself', async (t) => {
  const codes: string[] = [];
  const listening = listen({ onExhausted: (code) => codes.push(code) });
  const { calls } = reactor;
  const ioAccept = t.mock.fn((...of: Parameters<typeof calls.ioAccept>) => calls.ioAccept(...of));
  Object.assign(reactor, { calls: { ...calls, ioAccept } });
  t.after(() => Object.assign(reactor, { calls }));
  for (const times of [1, 2]) {
    listening.listener.pause();
    const sockets = await dial(listening.port, 2);
    const fillers: number[] = [];
    for (let filler = reactor.calls.ioSocket(4); filler >= 0; filler = reactor.calls.ioSocket(4)) fillers.push(filler);
    ioAccept.mock.resetCalls();
    const from = performance.now();
    listening.listener.resume();
    // Looks without a descriptor: a timer needs none.
    while (ioAccept.mock.callCount() < 4) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.ok(performance.now() - from >= 290);
    for (const filler of fillers) reactor.calls.ioClose(filler, 0);
    assert.deepEqual(codes, Array(times).fill('EMFILE'));
    await eventually('both connections', () => listening.accepted.length === 2 * times);
    for (const socket of sockets) socket.destroy();
  }
  finish(listening, []);
});

test('a client whose connection was accepted and not told sees a reset, and no end', async () => {
  const listening: Listening = listen({
    onConnection: ({ handle }) => {
      reactor.calls.ioClose(handle, 0);
      listening.listener.close();
    },
  });
  listening.listener.pause();
  const sockets = await dial(listening.port, 3);
  const seen = sockets.map(
    (socket) =>
      new Promise<string>((resolve) => {
        socket.resume().on('end', () => resolve('end'));
        socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
      }),
  );
  listening.listener.resume();
  assert.deepEqual((await Promise.all(seen)).sort(), ['ECONNRESET', 'ECONNRESET', 'end']);
  finish(listening, sockets);
});

test('what is no listening socket is refused, and stays with the caller', () => {
  const fd = listenTcp({ netnsFd: null, host: '127.0.0.1', port: 0, backlog: 1, reusePort: false });
  const owner: ListenerOwner = { onConnection: () => assert.fail(), onExhausted: () => assert.fail() };
  const first = IoListener.adopt(reactor, fd, { owner });
  assert.ok(first instanceof IoListener);
  assert.equal(IoListener.adopt(reactor, fd, { owner }), 'EEXIST');
  first.close();
  assert.throws(() => closeFd(fd), { code: 'EBADF' });
  assert.equal(IoListener.adopt(reactor, 1_000_000, { owner }), 'EBADF');
});
