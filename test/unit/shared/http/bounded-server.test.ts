import assert from 'node:assert/strict';
import { once } from 'node:events';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import net from 'node:net';
import { test } from 'node:test';
import {
  BoundedServer,
  optionsFor,
  type ConnectionCut,
  type ServerLimits,
} from '../../../../shared/http/bounded-server.js';
import { sharedAnswer } from '../../../../shared/http/shared-answer.js';
import { newDeferred } from '../../../../shared/deferred.js';
import { sourceOf } from '../../../../shared/source-of.js';
import { waitUntil } from '../../../lab/wait-until.js';

const limits: ServerLimits = {
  connections: 6,
  perSource: 4,
  headTimeoutMs: 60_000,
  requestTimeoutMs: 60_000,
  idleTimeoutMs: 60_000,
  readTimeoutMs: 60_000,
  closeGraceMs: 500,
};

/** A server whose `/secret` proves a client, and whose `/large` has more than a socket takes. */
async function serve(changes: Partial<ServerLimits> = {}) {
  const all = { ...limits, ...changes };
  const cuts: ConnectionCut[] = [];
  const bounded: BoundedServer = new BoundedServer({
    server: createServer(optionsFor(all)),
    limits: all,
    onCut: (why) => cuts.push(why),
    onError: (error) => assert.fail(error),
    answer: (request, response) => {
      if (request.url === '/secret') bounded.prove(request);
      const body = request.url === '/large' ? 'x'.repeat(64 * 1024 * 1024) : 'ok';
      bounded.send(response, { status: 200, headers: {}, body });
    },
  });
  const port = await bounded.listen({ host: '127.0.0.1', port: 0 });
  return { bounded, cuts, port, [Symbol.asyncDispose]: () => bounded[Symbol.asyncDispose]() };
}

async function connect(port: number): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function ended(socket: net.Socket): Promise<void> {
  if (!socket.closed) await once(socket.resume(), 'close');
}

async function ask(socket: net.Socket, path: string): Promise<string> {
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  return bytes.toString();
}

test('of one source the connection goes that has been silent for the longest, and one with a credential stays', async () => {
  await using server = await serve();
  const proved = await connect(server.port);
  assert.match(await ask(proved, '/secret'), /^HTTP\/1\.1 200/);
  const silent: net.Socket[] = [];
  for (let index = 0; index < 8; index++) silent.push(await connect(server.port));
  await Promise.all(silent.slice(0, 4).map((socket) => ended(socket)));
  assert.deepEqual(server.cuts, ['source', 'source', 'source', 'source']);
  const last = silent.at(-1);
  assert.ok(last !== undefined);
  assert.match(await ask(last, '/'), /^HTTP\/1\.1 200/);
  assert.match(await ask(proved, '/'), /^HTTP\/1\.1 200/);
  for (const socket of [proved, ...silent]) socket.destroy();
});

test('a request that has come keeps its connection among many that come with it', async () => {
  await using server = await serve({ perSource: 2, connections: 50 });
  const early = await connect(server.port);
  const crowd = Array.from({ length: 40 }, () => net.connect({ host: '127.0.0.1', port: server.port }));
  for (const socket of crowd) socket.on('error', () => undefined);
  assert.match(await ask(early, '/'), /^HTTP\/1\.1 200/);
  for (const socket of [early, ...crowd]) socket.destroy();
});

test('who does not read the answer is disconnected', async () => {
  await using server = await serve({ readTimeoutMs: 50 });
  const socket = await connect(server.port);
  socket.pause();
  socket.write('GET /large HTTP/1.1\r\nhost: x\r\n\r\n');
  await waitUntil('it is cut', () => (server.cuts.includes('slow_reader') ? true : undefined));
  socket.destroy();
});

test('a request that is not one, too large or too slow gets an answer that says so', async () => {
  const large = `GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`;
  // Only one is about the time: on a busy machine the others take longer than that.
  await using patient = await serve();
  await using server = await serve({ headTimeoutMs: 200 });
  const cases = [
    [patient, 'nonsense\r\n\r\n', /^HTTP\/1\.1 400 [^]*"BAD_REQUEST"/],
    [patient, large, /^HTTP\/1\.1 431 [^]*"HEAD_TOO_LARGE"/],
    [server, 'GET / HTTP/1.1\r\nhost: x\r\n', /^HTTP\/1\.1 408 [^]*"REQUEST_TIMEOUT"/],
  ] as const;
  for (const [{ port }, text, expected] of cases) {
    const socket = await connect(port);
    socket.write(text);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.match(answer.toString(), expected);
    socket.destroy();
  }
  assert.deepEqual(server.cuts, ['slow_request']);
});

test('a server that closes answers the connections that it has, and ends those between two requests', async () => {
  const server = await serve();
  const idle = await connect(server.port);
  await ask(idle, '/');
  const quiet = await connect(server.port);
  // Accepted, because a queue has an order.
  await ask(await connect(server.port), '/');
  const closed = server.bounded[Symbol.asyncDispose]();
  await ended(idle);
  assert.match(await ask(quiet, '/'), /^HTTP\/1\.1 200 [^]*connection: close/i);
  await closed;
});

test('a TLS client that begins to speak ends its time limit, and no listener of others', async () => {
  const server = createTlsServer(optionsFor(limits));
  await using bounded = new BoundedServer({
    server,
    limits,
    onCut: () => {},
    onError: (error) => assert.fail(error),
    answer: () => {},
  });
  const port = await bounded.listen({ host: '127.0.0.1', port: 0 });
  const ofOthers = (): void => {};
  const onSocket = (message: unknown): void => {
    const { socket } = message as { readonly socket: net.Socket };
    if (socket.localPort === port) socket.on('timeout', ofOthers);
  };
  subscribe('net.server.socket', onSocket);
  const handedOver = new Promise<readonly unknown[]>((resolve) =>
    server.prependListener('connection', (socket) => resolve(socket.listeners('timeout'))),
  );
  const client = await connect(port);
  client.write('x');
  assert.deepEqual(await handedOver, [ofOthers]);
  unsubscribe('net.server.socket', onSocket);
  client.destroy();
});

test('what is expensive is made once for all that ask meanwhile', async () => {
  let made = 0;
  const gate = newDeferred();
  const answer = sharedAnswer(async () => {
    made++;
    await gate.promise;
    return made;
  });
  const answers = Promise.all([answer(), answer(), answer()]);
  gate.resolve();
  assert.deepEqual(await answers, [1, 1, 1]);
});

test('a source is an IPv4 address, or the /64 of an IPv6 address', () => {
  assert.equal(sourceOf('::ffff:198.18.0.1'), sourceOf('198.18.0.1'));
  assert.notEqual(sourceOf('198.18.0.1'), sourceOf('198.18.0.2'));
  assert.equal(sourceOf('fd00:0:0:1::1'), sourceOf('fd00::1:2:3:4:5'));
  assert.notEqual(sourceOf('fd00:0:0:1::1'), sourceOf('fd00:0:0:2::1'));
});
