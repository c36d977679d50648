import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { after, test } from 'node:test';
import {
  desk as layout,
  epollEvent,
  mostSplicedBytes,
  socketOption,
  socketQuestion,
} from '../../../../../agent/native/io-calls.js';
import { resetSocket } from '../../../../../agent/native/addon.js';
import { EngineDesk, inAt, outAt, outBytes } from '../../../../support/agent/engine-desk.js';

const [EAGAIN, EPIPE, ECONNRESET, ECONNREFUSED, ENOTCONN, EMFILE, EINPROGRESS] = [
  -11, -32, -104, -111, -107, -24, -115,
];
const [EINVAL, ENODATA] = [-22, 61];
const desk = EngineDesk.ofThread();
const { calls } = desk;
const sockets = socketsOpen();

after(() => {
  assert.equal(calls.ioCounts(), 0);
  assert.equal(socketsOpen(), sockets);
});

function socketsOpen(): number {
  const kinds = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return kinds.filter((kind) => kind.startsWith('socket:')).length;
}

/** An address on the desk: port, and 16 bytes. */
function addressAt(word: number): string {
  const bytes = desk.memory.subarray(layout.accepted + 4 * (word + 1), layout.accepted + 4 * (word + 5));
  const port = desk.words[layout.accepted / 4 + word] ?? 0;
  return `${bytes.toString('hex').replace(/^0{20}f{4}/, 'v4:')}:${port}`;
}

test('a batch of connections is accepted with both addresses of each', async () => {
  const { handle, port } = desk.listen();
  const clients = [await desk.connect(port), await desk.connect(port), await desk.connect(port)];
  const taken: number[] = [];
  while (taken.length < 3) {
    const count = calls.ioAccept(handle, layout.mostAccepted, 1);
    if (count === EAGAIN) await desk.event(handle, epollEvent.in);
    for (let at = 0; at < count; at += 1) {
      const word = at * layout.acceptedWords;
      taken.push(desk.words[layout.accepted / 4 + word] ?? 0);
      assert.match(addressAt(word + 2), /^v4:7f000001:[1-9]\d*$/);
      assert.equal(addressAt(word + 7), `v4:7f000001:${port}`);
      assert.equal(desk.words[layout.accepted / 4 + word + 1], ENODATA, 'what was dialled was not asked for');
    }
  }
  assert.equal(calls.ioAccept(handle, 1, 0), EAGAIN);
  assert.equal(new Set(taken).size, 3);
  desk.close(handle, ...clients, ...taken);
});

test('the address before a redirect is not there without one, and says why', async () => {
  const { handle, port } = desk.listen('::1');
  const client = await desk.connect(port, '::1');
  await desk.event(handle, epollEvent.in);
  assert.equal(calls.ioAccept(handle, 1, 2), 1);
  const [server = 0, errno = 0] = desk.words.subarray(layout.accepted / 4);
  // ENOENT, or this side's own address where connection tracking is active.
  if (errno === 0) assert.equal(addressAt(12), addressAt(7));
  else assert.equal(errno, 2);
  assert.equal(addressAt(7), `${'0'.repeat(31)}1:${port}`);
  desk.close(handle, client, server);
});

test('bytes arrive in order, from one place and from many', async () => {
  const [client, server] = await desk.pair();
  assert.equal(desk.send(client, 'abcdef'), 6);
  desk.words.set([outAt + 3, 3, outAt, 3, outAt + 5, 1], layout.parts / 4);
  assert.equal(calls.ioSendParts(client, 3), 7);
  calls.ioShutdown(client);
  let text = '';
  for (let part = await desk.receive(server); part !== null; part = await desk.receive(server)) text += part;
  assert.equal(text, 'abcdefdefabcf');
  assert.equal(calls.ioReceive(server, inAt, 10), 0, 'the end stays the end');
  desk.close(client, server);
});

test('a full connection takes nothing more, and says when it does', async () => {
  const [client, server] = await desk.pair();
  desk.forget(client);
  let sent = 0;
  for (;;) {
    const count = calls.ioSend(client, outAt, outBytes);
    if (count === EAGAIN) break;
    sent += count;
  }
  assert.ok(calls.ioAsk(client, socketQuestion.unacknowledged) > 0);
  // On a busy machine what was sent may still be on its way.
  await desk.event(server, epollEvent.in);
  assert.ok(calls.ioAsk(server, socketQuestion.unread) > 0);
  let received = 0;
  const isWritable = desk.event(client, epollEvent.out);
  while (received < sent) received += (await desk.receive(server))?.length ?? Number.NaN;
  assert.equal(received, sent);
  assert.notEqual((await isWritable) & epollEvent.out, 0);
  desk.close(client, server);
});

test('each direction ends by itself', async () => {
  const [client, server] = await desk.pair();
  assert.equal(calls.ioShutdown(client), 0);
  assert.equal(await desk.receive(server), null);
  assert.equal(desk.send(client, 'x'), EPIPE);
  assert.equal(desk.send(server, 'late'), 4);
  assert.equal(await desk.receive(client), 'late');
  assert.equal(calls.ioShutdown(server), 0);
  assert.equal(await desk.receive(client), null);
  desk.close(client, server);
});

test('a reset arrives as one, after what came before it', async () => {
  const [client, server] = await desk.pair();
  desk.send(client, 'lost');
  assert.equal(calls.ioClose(client, 1), 0);
  await desk.event(server, epollEvent.error | epollEvent.hangUp);
  assert.equal(calls.ioReceive(server, inAt, 100), 4);
  assert.equal(calls.ioReceive(server, inAt, 100), ECONNRESET);
  assert.equal(calls.ioReceive(server, inAt, 100), 0);
  desk.close(server);
});

test('a reset of a socket of Node arrives, and ours arrives there', async () => {
  const server = createServer((socket) => resetSocket(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const client = await desk.connect(port);
  await desk.event(client, epollEvent.error | epollEvent.hangUp);
  assert.equal(calls.ioAsk(client, socketQuestion.error), -ECONNRESET);
  desk.close(client);
  server.close();
  await once(server, 'close');

  const listener = desk.listen();
  const outer = connect(listener.port, '127.0.0.1');
  const inner = await desk.accept(listener.handle);
  calls.ioClose(inner, 1);
  const [error] = (await once(outer, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  desk.close(listener.handle);
});

test('a dial that is refused says so, at once or with its event', async () => {
  const { handle, port } = desk.listen();
  desk.close(handle);
  const dial = desk.watch(calls.ioSocket(4));
  const result = calls.ioConnect(dial, '127.0.0.1', port);
  if (result === EINPROGRESS) {
    await desk.event(dial, epollEvent.error | epollEvent.hangUp);
    assert.equal(calls.ioAsk(dial, socketQuestion.error), -ECONNREFUSED);
  } else assert.equal(result, ECONNREFUSED);
  assert.ok([ENOTCONN, EPIPE].includes(desk.send(dial, 'x')));
  desk.close(dial);
});

test('without a descriptor left, a batch has what there was room for, then the error', async () => {
  const { handle, port } = desk.listen();
  const clients: number[] = [];
  for (let at = 0; at < 4; at += 1) clients.push(await desk.connect(port));
  await desk.event(handle, epollEvent.in);
  const fillers: number[] = [];
  for (;;) {
    const filler = calls.ioSocket(4);
    if (filler < 0) {
      assert.equal(filler, EMFILE);
      break;
    }
    fillers.push(filler);
  }
  desk.close(...fillers.splice(0, 2));
  assert.equal(calls.ioAccept(handle, 64, 0), 2);
  const taken = [0, 1].map((at) => desk.words[layout.accepted / 4 + at * layout.acceptedWords] ?? 0);
  assert.equal(calls.ioAccept(handle, 64, 0), EMFILE);
  desk.close(...fillers);
  assert.equal(calls.ioAccept(handle, 64, 0), 2);
  const rest = [0, 1].map((at) => desk.words[layout.accepted / 4 + at * layout.acceptedWords] ?? 0);
  desk.close(handle, ...clients, ...taken, ...rest);
});

test('options are set, and the state of a connection is told', async () => {
  const [client, server] = await desk.pair();
  for (const option of Object.values(socketOption)) assert.equal(calls.ioSetOption(client, option, 65_536), 0);
  const [established, closeWait] = [1, 8];
  assert.equal(calls.ioAsk(server, socketQuestion.state), established);
  calls.ioShutdown(client);
  assert.equal(await desk.receive(server), null);
  assert.equal(calls.ioAsk(server, socketQuestion.state), closeWait);
  desk.close(client, server);
});

test('a watch reports again what is ready when it is set again, and nothing when it is taken off', async () => {
  const [client, server] = await desk.pair();
  desk.send(client, 'x');
  await desk.event(server, epollEvent.in);
  desk.watch(server);
  await desk.event(server, epollEvent.in);
  assert.equal(calls.ioWatch(server, 0), 0);
  assert.equal(calls.ioWatch(server, 0), 0);
  desk.send(client, 'y');
  assert.equal(calls.ioPoll(), 0);
  desk.watch(server);
  assert.equal(calls.ioPoll(), 1);
  assert.equal(desk.words[0], server);
  desk.close(client, server);
});

test('spliced bytes arrive in order; what the target does not take waits, also behind the end', async () => {
  const [writer, from] = await desk.pair();
  const [to, reader] = await desk.pair();
  const pattern = Buffer.alloc(outBytes, 'abcdefghijklmnopqrstuvwxyz0123456789');
  desk.memory.set(pattern, outAt);
  let [sent, got, moved] = [0, 0, 0];
  const total = 8 * outBytes;
  let isEnded = false;
  let hasWaited = false;
  while (got < total) {
    if (sent < total) {
      const at = sent % outBytes;
      const count = calls.ioSend(writer, outAt + at, outBytes - at);
      if (count > 0) sent += count;
      if (sent === total) calls.ioShutdown(writer);
    }
    const count = calls.ioSplice(from, to, 1 << 20);
    assert.ok(count >= 0, `${count}`);
    moved += count;
    assert.equal(desk.status() & 8, 0);
    if ((desk.status() & 16) !== 0) hasWaited ||= desk.status(3) > 0;
    if ((desk.status() & 2) !== 0) {
      isEnded = true;
      assert.equal(desk.status(3), 0);
    }
    // A reader that is slow: every other turn, so that both sides fill up.
    if (!hasWaited && sent < total) continue;
    const read = calls.ioReceive(reader, inAt, 300_000);
    if (read <= 0) continue;
    for (let at = 0; at < read; at += 997)
      assert.equal(desk.memory[inAt + at], pattern[(got + at) % outBytes], `byte ${got + at}`);
    got += read;
  }
  assert.ok(hasWaited);
  while (!isEnded) {
    assert.equal(calls.ioSplice(from, to, 1), 0);
    isEnded = (desk.status() & 2) !== 0;
  }
  assert.equal(moved, total);
  desk.close(writer, from, to, reader);
});

test('a splice moves no more than it is asked to, and a bounded number of bytes', async () => {
  const [writer, from] = await desk.pair();
  const [to, reader] = await desk.pair();
  assert.equal(calls.ioSend(writer, outAt, 10_000), 10_000);
  while (calls.ioAsk(from, socketQuestion.unread) < 10_000) await desk.event(from, epollEvent.in);
  assert.equal(calls.ioSplice(from, to, 4000), 4000);
  assert.equal(desk.status(), 0, 'more may be there');
  for (const most of [0, -1, mostSplicedBytes + 1]) assert.equal(calls.ioSplice(from, to, most), EINVAL);
  assert.equal(calls.ioSplice(from, to, mostSplicedBytes), 6000);
  desk.close(writer, from, to, reader);
});

test('a splice says whose fault a failure is', async () => {
  const [writer, from] = await desk.pair();
  const [to, reader] = await desk.pair();
  desk.send(writer, 'x');
  calls.ioClose(reader, 1);
  await desk.event(to, epollEvent.error | epollEvent.hangUp);
  await desk.event(from, epollEvent.in);
  calls.ioSplice(from, to, 100);
  assert.deepEqual([desk.status() & 8, desk.status(2)], [8, 2]);
  calls.ioClose(writer, 1);
  const [other, sink] = await desk.pair();
  await desk.event(from, epollEvent.error | epollEvent.hangUp);
  calls.ioSplice(from, other, 100);
  desk.close(from, to, other, sink);
});
