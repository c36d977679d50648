import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { errorBehindEnd } from '../../agent/native/tcp-life.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { endOf, readSome, twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;
const drainMs = 2000;

before(async () => {
  mesh = await startMesh({ topology: twoHosts, agentArgs: ['--drain-timeout', `${drainMs}ms`] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

type Pair = { readonly client: Socket; readonly server: Socket };

/** Connections from the client to the server, both ends held by this process. */
async function openPairs(count: number): Promise<Pair[]> {
  const target = mesh.lab.workload('server');
  const arrivals = new EventEmitter<{ connection: [Socket] }>();
  const listener = await target.listen({}, (socket) => arrivals.emit('connection', socket));
  const pairs: Pair[] = [];
  for (let index = 0; index < count; index++) {
    const accepted = once(arrivals, 'connection') as Promise<[Socket]>;
    const client = await mesh.lab.workload('client').connect({ ip: target.ipv4, port: listener.port });
    const [server] = await accepted;
    for (const socket of [client, server]) socket.on('error', () => {});
    pairs.push({ client, server });
  }
  listener.server.close();
  return pairs;
}

/**
 * Like {@link endOf}, with what the kernel says of an `end`: libuv reports one for a RST that arrives together with the last
 * bytes, which a flooded client always has.
 */
async function cutOf(socket: Socket): Promise<string> {
  let behindEnd: string | null = null;
  socket.once('end', () => (behindEnd = errorBehindEnd(socket)));
  const how = await endOf(socket);
  return how === 'end' ? (behindEnd ?? how) : how;
}

async function openConnections(): Promise<number> {
  const counts = await Promise.all(mesh.agents.map((agent) => agent.metric('culvert_open_connections')));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Sends as fast as it can until it is closed, so that bytes are queued wherever they can be. */
function flood(socket: Socket): void {
  const block = Buffer.alloc(131_072, 'x');
  const pump = (): void => {
    while (!socket.destroyed && socket.write(block));
  };
  socket.on('drain', pump);
  pump();
}

test('a server that closes with bytes unread and a client that closes with bytes queued leave nothing open', async () => {
  const lines = mesh.agents.map((agent) => agent.records().length);
  const rounds = 4;
  for (let round = 0; round < rounds; round++) {
    const pairs = await openPairs(8);
    for (const { client, server } of pairs) {
      flood(client);
      server.resume();
    }
    await pause(400);
    for (const { server } of pairs) server.pause();
    await pause(50);
    // One after the other, so that the two ends cross on their way in every distance.
    for (const { client, server } of pairs) {
      server.destroy();
      await pause(round);
      client.destroy();
    }
  }
  await waitUntil('no connection is open', async () => ((await openConnections()) === 0 ? true : undefined));
  await waitUntil('each connection has its line at both hosts', () => {
    const counts = mesh.agents.map((agent, index) => agent.records().length - (lines[index] ?? 0));
    return counts.every((count) => count === 8 * rounds) ? true : undefined;
  });
});

test('a server that closes with the last words of a client unread has ended, at both hosts', async () => {
  const [pair] = await openPairs(1);
  const { client, server } = pair!;
  client.write('question');
  await readSome(server);
  server.write('the answer');
  await readSome(client);
  // The last words, as TLS has them; then the client closes.
  client.end('goodbye');
  await pause(300);
  const end = endOf(client);
  // What the kernel sends for a server that has read nothing of it and closes.
  server.resetAndDestroy();
  const isIt = (line: { bytesSent: number; bytesReceived: number }): boolean =>
    line.bytesSent === 15 && line.bytesReceived === 10;
  for (const agent of mesh.agents) {
    const line = await agent.waitForRecord('the connection', isIt);
    assert.equal(line.reason, 'OK', JSON.stringify(line));
    assert.match(line.detail ?? '', /from the destination after both had finished/);
  }
  // The reset travels on to a client that still listens.
  assert.equal(await end, 'ECONNRESET');
});

test('a drain ends in its time whatever is open, and says what it cut', async () => {
  const node1 = mesh.agent('node1');
  const [idle, stuck] = await openPairs(2);
  // The second has bytes that wait everywhere, and neither side reads.
  flood(stuck!.client);
  flood(stuck!.server);
  await pause(500);
  const startedAtMs = performance.now();
  const stopped = node1.stop('SIGTERM', drainMs + 20_000);
  const ends = [cutOf(idle!.client), cutOf(stuck!.client)];
  assert.deepEqual(await stopped, { code: 0, signal: null });
  const tookMs = performance.now() - startedAtMs;
  assert.ok(tookMs < drainMs + 8000, `${Math.round(tookMs)} ms`);
  for (const end of await Promise.all(ends)) assert.match(end, /ECONNRESET|EPIPE|close/);
  const reports = node1
    .logLines()
    .filter((line): line is { msg: string; cut: number; connections: { destination: string }[] } =>
      /the drain is over/.test((line as { msg?: string }).msg ?? ''),
    );
  const cut = reports.reduce((sum, report) => sum + report.cut, 0);
  assert.equal(cut, 2, JSON.stringify(reports));
  for (const { msg, connections } of reports) {
    assert.equal(msg, 'the drain is over: open connections were cut');
    for (const { destination } of connections) assert.match(destination, /^shop\/server /);
  }
  const drained = node1.records().filter(({ reason }) => reason === 'DRAIN');
  assert.equal(drained.length, 2);
  for (const { client, server } of [idle!, stuck!]) {
    client.destroy();
    server.destroy();
  }
});
