import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { atEnd, IoSocket, nothingYet, type SocketOwner } from '../../../../../agent/dataplane/io/io-socket.js';
import { Reactor, scratchAt, type Turnable, type Watched } from '../../../../../agent/dataplane/io/reactor.js';
import { Timed } from '../../../../../agent/dataplane/io/timer-wheel.js';
import { epollEvent, socketQuestion } from '../../../../../agent/native/io-calls.js';
import { resetSocket } from '../../../../../agent/native/addon.js';
import { dialSocket } from '../../../../../agent/native/dial-sockets.js';
import { eventually, withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

/** A test that runs where `node:net` is the peer. */
async function serve(onSocket: (socket: Socket) => void): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => onSocket(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as { port: number }).port };
}

type Client = SocketOwner & { socket: IoSocket; bytes: number; sha: ReturnType<typeof createHash>; turns: number };

/** Reads all that comes, `most` bytes a turn. */
function dial(port: number, what: Partial<SocketOwner> & { most?: number; onEnd?: () => void } = {}): Client {
  const reactor = Reactor.ofThread();
  const owner: Omit<Client, 'socket'> & { socket: IoSocket | null } = {
    socket: null,
    bytes: 0,
    sha: createHash('sha256'),
    turns: 0,
    onReadable: () => {
      owner.turns += 1;
      const count = owner.socket?.read(scratchAt, what.most ?? 65_536) ?? nothingYet;
      if (count === atEnd) what.onEnd?.();
      if (count <= 0) return;
      owner.bytes += count;
      owner.sha.update(reactor.memory.subarray(scratchAt, scratchAt + count));
    },
    onBroken: (code) => assert.fail(code),
    ...what,
  };
  const fd = dialSocket({ netnsFd: null, family: 4, mark: 0 });
  const socket = IoSocket.dial(reactor, { fd, ip: '127.0.0.1', port, owner });
  if (typeof socket === 'string') throw new Error(socket);
  owner.socket = socket;
  // The caller has what this returns by then.
  if (socket.isConnected) queueMicrotask(() => owner.onConnected?.());
  return owner as Client;
}

async function closed(server: Server): Promise<void> {
  server.close();
  await once(server, 'close');
  assert.equal(Reactor.ofThread().calls.ioCounts(), 0);
}

/** From include/net/tcp_states.h. */
const [closedState, closeWaitState] = [7, 8];

/** Waits for what the kernel says of the client, and lets no event of it be handed out meanwhile. */
function untilKernelSays(client: Client, question: keyof typeof socketQuestion, answer: number): void {
  const { calls } = Reactor.ofThread();
  const untilMs = performance.now() + 20_000;
  while (calls.ioAsk(client.socket.handle, socketQuestion[question]) !== answer)
    assert.ok(performance.now() < untilMs, `${question} is never ${answer}`);
}

test('bytes go both ways in order, what waits is written first, and the end comes behind it', async () => {
  const { server, port } = await serve((socket) => socket.pause().once('resume', () => socket.pipe(socket)));
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const reactor = Reactor.ofThread();
  const block = Buffer.alloc(300_000, 'abcdefghijklmnopqrstuvwxyz!');
  const sent = createHash('sha256');
  let left = 40;
  let hasWaited = false;
  const write = (): void => {
    while (left > 0) {
      block.writeUInt32BE(left, 0);
      reactor.memory.set(block, scratchAt);
      sent.update(block);
      left -= 1;
      if (client.socket.write(scratchAt, block.length) > 0) {
        hasWaited = true;
        return;
      }
    }
    client.socket.end();
  };
  let finish = (): void => {};
  const ended = new Promise<void>((resolve) => (finish = resolve));
  const client = dial(port, { onConnected: () => write(), onDrained: () => write(), onEnd: () => finish() });
  const [peer] = await accepted;
  setImmediate(() => peer.resume());
  await withDeadline('the end of the echo', ended);
  assert.ok(hasWaited);
  assert.equal(client.bytes, 40 * block.length);
  assert.equal(client.sha.digest('hex'), sent.digest('hex'));
  assert.throws(() => client.socket.write(scratchAt, 1), /after the end/);
  client.socket.close();
  assert.equal(client.socket.fd, null);
  await closed(server);
});

test('what waits is bounded', async () => {
  const { server, port } = await serve((socket) => socket.pause());
  const client = dial(port);
  assert.throws(() => {
    for (;;) client.socket.write(scratchAt, 500_000);
  }, RangeError);
  assert.ok(client.socket.waiting > 4 * 1024 * 1024 && client.socket.waiting <= 4 * 1024 * 1024 + 500_000);
  for (const write of ['writeBytes', 'hold'] as const)
    assert.throws(() => client.socket[write](Buffer.alloc(1)), RangeError);
  client.socket.reset();
  await closed(server);
});

for (const write of ['writeBytes', 'hold'] as const)
  test(`more than the bound goes at once by ${write}, where little waits`, async () => {
    const sent = randomBytes(9_000_000);
    const received = createHash('sha256');
    let bytes = 0;
    const { server, port } = await serve((socket) => socket.pause());
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = dial(port);
    const [peer] = await accepted;
    assert.ok(client.socket[write](sent) >= 0);
    const whole = new Promise<void>((resolve) =>
      peer.resume().on('data', (chunk: Buffer) => {
        received.update(chunk);
        bytes += chunk.length;
        if (bytes === sent.length) resolve();
      }),
    );
    await withDeadline('all of it', whole);
    assert.equal(received.digest('hex'), createHash('sha256').update(sent).digest('hex'));
    client.socket.reset();
    await closed(server);
  });

test('a reset of the peer is told by its code, and ours is one there', async () => {
  const { server, port } = await serve((socket) => setImmediate(() => resetSocket(socket)));
  const code = await withDeadline('the reset', new Promise((resolve) => void dial(port, { onBroken: resolve })));
  assert.equal(code, 'ECONNRESET');
  await closed(server);

  const other = await serve(() => {});
  const accepted = once(other.server, 'connection') as Promise<[Socket]>;
  const client = dial(other.port);
  const [peer] = await accepted;
  const failed = new Promise<NodeJS.ErrnoException>((resolve) => peer.once('error', resolve));
  client.socket.reset();
  peer.resume();
  assert.equal((await withDeadline('the reset at the peer', failed)).code, 'ECONNRESET');
  await closed(other.server);
});

for (const { what, end, codes } of [
  { what: 'a reset', end: false, codes: ['ECONNRESET'] },
  { what: 'an end and a reset', end: true, codes: ['end', 'EPIPE'] },
])
  test(`what came before ${what} is read, although a write finds that first`, async () => {
    const { server, port } = await serve(() => {});
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const told: string[] = [];
    const client = dial(port, {
      most: 1000,
      onEnd: () => told.push('end'),
      onBroken: (code) => told.push(code),
    });
    const read = client.onReadable.bind(client);
    client.onReadable = () => {};
    const [peer] = await accepted;
    peer.write(Buffer.alloc(10_000, 1));
    if (end) await once(peer.end(), 'finish');
    // A reset drops what has not left, and may come later than the write below.
    untilKernelSays(client, 'unread', 10_000);
    if (end) untilKernelSays(client, 'state', closeWaitState);
    resetSocket(peer);
    untilKernelSays(client, 'state', closedState);
    client.onReadable = read;
    assert.deepEqual([client.bytes, client.socket.write(scratchAt, 1), client.socket.isOpen], [0, 0, true]);
    client.socket.write(scratchAt, 1);
    await eventually('the failure', () => !client.socket.isOpen);
    assert.deepEqual([client.bytes, ...told], [10_000, ...codes]);
    await closed(server);
  });

for (const { when, isRead, bytes } of [
  { when: 'before that end is read', isRead: false, bytes: 0 },
  { when: 'before what came and that end are read', isRead: false, bytes: 1000 },
  { when: 'after it was read', isRead: true, bytes: 1000 },
])
  test(`a reset behind the end of the peer, ${when}, is told to an owner that writes nothing`, async () => {
    const { server, port } = await serve(() => {});
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const told: string[] = [];
    const client = dial(port, { onEnd: () => told.push('end'), onBroken: (code) => told.push(code) });
    const read = client.onReadable.bind(client);
    if (!isRead) client.onReadable = () => {};
    const [peer] = await accepted;
    if (bytes > 0) peer.write(Buffer.alloc(bytes, 1));
    await once(peer.end(), 'finish');
    untilKernelSays(client, 'state', closeWaitState);
    if (isRead) await eventually('the end', () => told.length === 1);
    resetSocket(peer);
    untilKernelSays(client, 'state', closedState);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    if (!isRead) {
      assert.deepEqual([told, client.socket.isOpen], [[], true], 'what was not read is not lost');
      client.onReadable = read;
      // Not in a round of the reactor.
      read();
    }
    await eventually('the failure', () => !client.socket.isOpen);
    assert.deepEqual([client.bytes, ...told], [bytes, 'end', 'EPIPE']);
    await closed(server);
  });

test('a write that fails is told at once to an owner that does not read', async () => {
  const { server, port } = await serve((socket) => socket.write('unread'));
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const codes: string[] = [];
  const client = dial(port, { onReadable: () => {}, onBroken: (code) => codes.push(code) });
  const [peer] = await accepted;
  untilKernelSays(client, 'unread', 'unread'.length);
  resetSocket(peer);
  untilKernelSays(client, 'state', closedState);
  client.socket.write(scratchAt, 1);
  await eventually('the failure', () => !client.socket.isOpen);
  assert.deepEqual(codes, ['ECONNRESET']);
  await closed(server);
});

test('timers of the wheel are due while it has any', async () => {
  const { timers } = Reactor.ofThread();
  let isDue = (): void => {};
  const due = new Promise<void>((resolve) => (isDue = resolve));
  class Once extends Timed {
    override onDue(): void {
      isDue();
    }
  }
  timers.set(new Once(), performance.now() + 150);
  Reactor.ofThread().keepTime();
  // It keeps no process alive by itself.
  const alive = setInterval(() => {}, 1000);
  await withDeadline('the timer', due);
  clearInterval(alive);
  assert.equal(timers.size, 0);
});

test('a dial that is refused says so', async () => {
  const { server, port } = await serve(() => {});
  await closed(server);
  const fd = dialSocket({ netnsFd: null, family: 4, mark: 0 });
  const code = await new Promise((resolve) => {
    const owner: SocketOwner = { onReadable: () => {}, onBroken: resolve };
    const made = IoSocket.dial(Reactor.ofThread(), { fd, ip: '127.0.0.1', port, owner });
    if (typeof made === 'string') resolve(made);
  });
  assert.equal(code, 'ECONNREFUSED');
});

test('a connection with much to read takes one quantum in a round, and no event is lost next to a busy one', async () => {
  const bulk = Buffer.alloc(8 << 20);
  const { server, port } = await serve((socket) =>
    socket.once('data', (first) => {
      if (first[0] === 1) socket.write(bulk);
      else socket.on('data', (data) => socket.write(data)).write(first);
    }),
  );
  const reactor = Reactor.ofThread();
  const clients: Client[] = [];
  const first = (kind: number) => (): void => {
    reactor.memory[scratchAt] = kind;
    clients[kind]?.socket.write(scratchAt, 1);
  };
  let echoes = 0;
  const small = (): void => {
    const count = clients[0]?.socket.read(scratchAt, 100) ?? 0;
    if (count <= 0) return;
    echoes += 1;
    clients[0]?.socket.write(scratchAt, count);
  };
  clients.push(dial(port, { onConnected: first(0), onReadable: small }));
  clients.push(dial(port, { onConnected: first(1), most: 4096 }));
  const arrived = async (): Promise<void> => {
    while ((clients[1]?.bytes ?? 0) < bulk.length) await new Promise(setImmediate);
  };
  await withDeadline('all of the bulk', arrived());
  assert.ok((clients[1]?.turns ?? 0) >= bulk.length / 4096);
  assert.ok(echoes > 10, `${echoes} echoes meanwhile`);
  for (const { socket } of clients) socket.reset();
  await closed(server);
});

test('what one connection throws is an uncaught exception, and the turn goes on for the others', async () => {
  const reactor = Reactor.ofThread();
  const error = new Error('of one connection');
  const thrown: unknown[] = [];
  process.setUncaughtExceptionCaptureCallback((what) => thrown.push(what));
  try {
    const work = (onTurn: () => void): Turnable => ({ isQueued: false, onTurn });
    // The second round shows that the reactor still begins turns.
    for (let round = 0; round < 2; round++) {
      reactor.queue(
        work(() => {
          throw error;
        }),
      );
      const turn = new Promise<void>((resolve) => {
        reactor.queue(work(resolve));
      });
      await withDeadline('the turn of the other', turn);
    }
    const { server, port } = await serve((socket) => socket.end('x'));
    const failing = dial(port);
    const throwing: Watched = {
      handle: failing.socket.handle,
      onEvents: () => {
        throw error;
      },
    };
    assert.equal(reactor.watch(throwing, epollEvent.in), 0);
    let finish = (): void => {};
    const ended = new Promise<void>((resolve) => (finish = resolve));
    const other = dial(port, { onEnd: () => finish() });
    await withDeadline('the end of the other', ended);
    reactor.forget(throwing);
    for (const { socket } of [failing, other]) socket.close();
    await closed(server);
    assert.ok(thrown.length >= 3 && thrown.every((what) => what === error));
  } finally {
    process.setUncaughtExceptionCaptureCallback(null);
  }
});
