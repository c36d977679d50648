import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { agentSettingsTable } from '../../agent/config/agent-settings.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { readSome, readToEnd, twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';
import { idleMsOf } from '../support/machine-factor.js';
import { propertyRuns } from '../support/property-runs.js';

const mebibyte = 1024 * 1024;
/** DESIGN §3: what one stream may have in flight. */
const streamWindowBytes = 4 * mebibyte;

const hasOneWorker = process.env[agentSettingsTable.workers.env] === '1';
/**
 * A share of it in the gate, as of a property's worlds. Of these bytes alone it does not matter how many threads an agent has, so
 * it is little where this file runs again.
 */
const total = (hasOneWorker ? 128 : propertyRuns(1024)) * mebibyte;

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** Writes `total` bytes that repeat a random block, respecting backpressure, and returns their SHA-256. */
async function send(socket: Socket, total: number): Promise<string> {
  const hash = createHash('sha256');
  const block = randomBytes(mebibyte);
  for (let left = total; left > 0; left -= block.length) {
    const piece = left < block.length ? block.subarray(0, left) : block;
    hash.update(piece);
    if (!socket.write(piece)) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
}

async function receive(socket: Socket): Promise<{ readonly bytes: number; readonly hash: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  // A connection that was accepted paused does not start by a listener alone.
  socket.resume();
  await once(socket, 'end');
  return { bytes, hash: hash.digest('hex') };
}

/** Resident memory of an agent's process, bytes. */
function residentBytes(agent: MeshAgent): number {
  const pid = agent.process.pid;
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

async function connectPair(): Promise<{ client: Socket; server: Socket; close: () => Promise<void> }> {
  const target = mesh.lab.workload('server');
  let resolveAccepted: (socket: Socket) => void = () => {};
  const accepted = new Promise<Socket>((resolve) => (resolveAccepted = resolve));
  const listener = await target.listen({ isPaused: true }, resolveAccepted);
  const client = await mesh.lab.workload('client').connect({ ip: target.ipv4, port: listener.port });
  return { client, server: await accepted, close: () => listener.close() };
}

const name = `${total / mebibyte} MiB arrive whole in each direction at once, with equal hashes`;
test(name, { timeout: patientMs(120_000) }, async () => {
  const { client, server, close } = await connectPair();
  const [sent, answered, atServer, atClient] = await Promise.all([
    send(client, total),
    send(server, total),
    receive(server),
    receive(client),
  ]);
  assert.deepEqual(
    [atServer, atClient],
    [
      { bytes: total, hash: sent },
      { bytes: total, hash: answered },
    ],
  );
  const isIt = (line: { bytesSent: number; bytesReceived: number }): boolean =>
    line.bytesSent === total && line.bytesReceived === total;
  const record = await mesh.agent('node1').waitForRecord('all of it', isIt);
  assert.equal(record.reason, 'OK');
  await mesh.agent('node2').waitForRecord('all of it', (line) => isIt(line) && line.traceId === record.traceId);
  await close();
});

test('1,000 connections at once are all served and counted', { timeout: patientMs(60_000) }, async () => {
  const target = mesh.lab.workload('server');
  const node1 = mesh.agent('node1');
  await using listener = await target.listen({ backlog: 4096 }, (socket) => {
    void readToEnd(socket).then(
      (request) => socket.end(request),
      () => {},
    );
  });
  const before = await node1.metric('culvert_connections_closed_total', { direction: 'outbound', reason: 'OK' });
  const source = mesh.lab.workload('client');
  const clients = await Promise.all(
    Array.from({ length: 1000 }, () => source.connect({ ip: target.ipv4, port: listener.port, timeoutMs: 30_000 })),
  );
  const answers = clients.map((client) => readToEnd(client));
  for (const [index, client] of clients.entries()) client.end(`request ${index}`);
  const texts = (await Promise.all(answers)).map((answer) => answer.toString());
  assert.deepEqual(
    texts,
    clients.map((_, index) => `request ${index}`),
  );

  const startedAtMs = performance.now();
  let counted = 0;
  while (counted < 1000 && performance.now() - startedAtMs < patientMs(5000)) {
    counted =
      (await node1.metric('culvert_connections_closed_total', { direction: 'outbound', reason: 'OK' })) - before;
  }
  assert.equal(counted, 1000);
});

test(
  'a reader that stalls holds the sender back, with the memory of both agents bounded',
  { timeout: patientMs(60_000) },
  async () => {
    const { client, server, close } = await connectPair();
    const agents = mesh.agents;
    const before = agents.map(residentBytes);
    const block = randomBytes(mebibyte);
    let written = 0;
    // Backpressure has to reach the writer: it stops taking bytes although 512 MiB are on offer.
    while (written < 512 * mebibyte) {
      written += block.length;
      if (client.write(block)) continue;
      const isTaken = await Promise.race([once(client, 'drain').then(() => true), pauseOf(1500).then(() => false)]);
      if (!isTaken) break;
    }
    assert.ok(written < 64 * mebibyte, `${written / mebibyte} MiB were taken from the writer`);
    const growth = agents.map((agent, index) => residentBytes(agent) - (before[index] ?? 0));
    for (const bytes of growth) {
      assert.ok(bytes < 8 * streamWindowBytes, `an agent grew by ${Math.round(bytes / mebibyte)} MiB`);
    }
    const received = receive(server);
    client.end();
    assert.equal((await received).bytes, written);
    client.resume();
    server.end();
    await close();
  },
);

test('200 stalled streams do not stall their sibling in the same tunnel', { timeout: patientMs(60_000) }, async () => {
  const target = mesh.lab.workload('server');
  const source = mesh.lab.workload('client');
  const accepted: Socket[] = [];
  await using listener = await target.listen({ isPaused: true, backlog: 1024 }, (socket) => accepted.push(socket));
  const stalled = await Promise.all(
    Array.from({ length: 200 }, () => source.connect({ ip: target.ipv4, port: listener.port })),
  );
  const block = Buffer.alloc(256 * 1024, 'x');
  for (const socket of stalled) socket.write(block);
  await using echo = await target.listen({}, (socket) => void socket.pipe(socket));
  const sibling = await source.connect({ ip: target.ipv4, port: echo.port });
  const tookMs = await idleMsOf(async () => {
    for (let round = 0; round < 50; round++) {
      sibling.write('ping');
      assert.equal((await readSome(sibling)).toString(), 'ping');
    }
  });
  const perRoundMs = tookMs / 50;
  assert.ok(perRoundMs < 100, `a round trip took ${perRoundMs} ms beside 200 stalled streams`);
  for (const socket of [...stalled, ...accepted, sibling]) socket.destroy();
});

test(
  'a fast reader keeps its speed beside 200 that do not read, in bounded memory',
  { timeout: patientMs(120_000) },
  async () => {
    const target = mesh.lab.workload('server');
    const source = mesh.lab.workload('client');
    const poured = Buffer.alloc(mebibyte / 4, 'x');
    const servers: Socket[] = [];
    await using listener = await target.listen({ backlog: 1024 }, (socket) => {
      servers.push(socket);
      socket.on('error', () => {});
      const pour = (): void => {
        while (!socket.destroyed && socket.write(poured));
      };
      socket.on('drain', pour);
      pour();
    });
    const dial = (): Promise<Socket> => source.connect({ ip: target.ipv4, port: listener.port, timeoutMs: 30_000 });
    const fastMs = async (): Promise<number> => {
      const socket = await dial();
      const startedAt = performance.now();
      let bytes = 0;
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > 64 * mebibyte) break;
      }
      socket.destroy();
      return performance.now() - startedAt;
    };
    const alone = [await fastMs(), await fastMs()];
    const before = mesh.agents.map(residentBytes);
    const slow = await Promise.all(Array.from({ length: 200 }, dial));
    for (const socket of slow) socket.pause();
    await untilStill(() =>
      servers.reduce((sum, { bytesWritten, writableLength }) => sum + bytesWritten - writableLength, 0),
    );
    const beside = [await fastMs(), await fastMs()];
    const growth = mesh.agents.map((agent, index) => residentBytes(agent) - (before[index] ?? 0));
    for (const socket of [...slow, ...servers]) socket.destroy();
    alone.push(await fastMs(), await fastMs());
    assert.ok(
      Math.min(...beside) < 3 * Math.max(...alone),
      `${beside.join(', ')} ms instead of ${alone.join(', ')} ms`,
    );
    // Of each connection 128 KiB of window and at most twice 64 KiB on their way to its socket are 50 MiB; V8's garbage
    // comes on top.
    for (const bytes of growth)
      assert.ok(bytes < 128 * mebibyte, `an agent grew by ${Math.round(bytes / mebibyte)} MiB`);
  },
);

/** Until a number stays what it is for a second. */
async function untilStill(value: () => number): Promise<void> {
  const startedAtMs = performance.now();
  for (let last = -1; last !== value();) {
    assert.ok(performance.now() - startedAtMs < patientMs(60_000), 'it still moves');
    last = value();
    await pauseOf(1000);
  }
}

/** For the one thing that no event tells of: that nothing happens. */
function pauseOf(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
