import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { attempt } from '../support/mesh/attempt.js';
import { endOf, readSome, readToEnd, twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** A connection from the client to a listener in the server: both ends, held by this process. */
async function connectPair(family: 'ipv4' | 'ipv6' = 'ipv4'): Promise<{ client: Socket; server: Socket }> {
  const target = mesh.lab.workload('server');
  const arrivals = new EventEmitter<{ connection: [Socket] }>();
  const accepted = once(arrivals, 'connection') as Promise<[Socket]>;
  const listener = await target.listen({}, (socket) => arrivals.emit('connection', socket));
  const client = await mesh.lab.workload('client').connect({ ip: target[family], port: listener.port });
  const [server] = await accepted;
  listener.server.close();
  return { client, server };
}

for (const family of ['ipv4', 'ipv6'] as const) {
  test(`a client that closes its half still gets the whole answer over ${family}`, async () => {
    const { client, server } = await connectPair(family);
    client.end('question');
    assert.equal((await readToEnd(server)).toString(), 'question');
    const answer = Buffer.alloc(3_000_000, 'answer ');
    server.end(answer);
    assert.ok((await readToEnd(client)).equals(answer));
  });

  test(`a server that closes its half still gets the whole request over ${family}`, async () => {
    const { client, server } = await connectPair(family);
    server.end('greeting');
    assert.equal((await readToEnd(client)).toString(), 'greeting');
    const request = Buffer.alloc(3_000_000, 'request ');
    client.end(request);
    assert.ok((await readToEnd(server)).equals(request));
  });
}

test('a client that closes its half at once, before the server was dialled, is served', async () => {
  const target = mesh.lab.workload('server');
  await using listener = await target.listen({}, (socket) => {
    void readToEnd(socket).then((request) => socket.end(`${request.length} bytes`));
  });
  const client = await mesh.lab.workload('client').connect({ ip: target.ipv4, port: listener.port });
  client.end();
  assert.equal((await readToEnd(client)).toString(), '0 bytes');
});

test('both ends log a connection that ended in order as OK with the same bytes', async () => {
  const { client, server } = await connectPair();
  client.end('12345');
  server.end('1234567');
  await Promise.all([readToEnd(client), readToEnd(server)]);
  const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
  const sent = await node1.waitForRecord('the connection', (line) => line.bytesSent === 5 && line.bytesReceived === 7);
  const taken = await node2.waitForRecord('the same connection', (line) => line.traceId === sent.traceId);
  assert.deepEqual([sent.reason, sent.direction, sent.path], ['OK', 'outbound', 'hbone']);
  assert.deepEqual([taken.reason, taken.direction, taken.bytesSent, taken.bytesReceived], ['OK', 'inbound', 5, 7]);
});

test('a reset by the client arrives at the server as a reset, and both ends say so', async () => {
  const { client, server } = await connectPair();
  client.write('hello');
  await readSome(server);
  const end = endOf(server);
  client.resetAndDestroy();
  assert.equal(await end, 'ECONNRESET');
  const isIt = (line: { reason: string }): boolean => line.reason === 'CLIENT_RESET';
  const sent = await mesh.agent('node1').waitForRecord('the reset', isIt);
  const taken = await mesh.agent('node2').waitForRecord('the reset', (line) => line.traceId === sent.traceId);
  assert.equal(taken.reason, 'CLIENT_RESET');
});

test('a reset by the server arrives at the client as a reset, and both ends say so', async () => {
  const { client, server } = await connectPair();
  client.write('hello');
  await readSome(server);
  const end = endOf(client);
  server.resetAndDestroy();
  assert.equal(await end, 'ECONNRESET');
  const isIt = (line: { reason: string }): boolean => line.reason === 'PEER_RESET';
  const sent = await mesh.agent('node1').waitForRecord('the reset', isIt);
  const taken = await mesh.agent('node2').waitForRecord('the reset', (line) => line.traceId === sent.traceId);
  assert.equal(taken.reason, 'PEER_RESET');
});

test('a port on which nothing listens is refused, with the reason at both ends', async () => {
  const target = mesh.lab.workload('server');
  // The reset can overtake the news that the agent has accepted: then it is the connect that fails.
  const { outcome } = await attempt(mesh.lab.workload('client'), target.ipv4, 9);
  assert.equal(outcome, 'ECONNRESET');
  const isIt = (line: { requested?: string }): boolean => line.requested === `${target.ipv4}:9`;
  const sent = await mesh.agent('node1').waitForRecord('the refusal', isIt);
  const taken = await mesh.agent('node2').waitForRecord('the refusal', isIt);
  assert.deepEqual([sent.reason, taken.reason], ['CONNECT_REFUSED', 'CONNECT_REFUSED']);
});

test('a server that speaks first is heard before the client says anything', async () => {
  const target = mesh.lab.workload('server');
  await using listener = await target.listen({}, (socket) => socket.end('220 ready\r\n'));
  const client = await mesh.lab.workload('client').connect({ ip: target.ipv4, port: listener.port });
  assert.equal((await readToEnd(client)).toString(), '220 ready\r\n');
});

test('the server sees the own address of the client, over IPv4, IPv6 and through a service', async () => {
  const target = mesh.lab.workload('server');
  const source = mesh.lab.workload('client');
  const seen: string[] = [];
  await using listener = await target.listen({ port: 8080 }, (socket) => {
    seen.push(socket.remoteAddress?.replace('::ffff:', '') ?? '');
    socket.end('.');
    socket.on('end', () => socket.destroy()).resume();
  });
  const vip = mesh.lab.vip('front');
  const targets = [
    [target.ipv4, listener.port],
    [target.ipv6, listener.port],
    [vip.ipv4, 80],
    [vip.ipv6, 80],
  ] as const;
  for (const [ip, port] of targets) {
    const client = await source.connect({ ip, port });
    assert.equal((await readToEnd(client)).toString(), '.');
    client.end();
    if (!client.destroyed) await once(client, 'close');
  }
  assert.deepEqual(seen, [source.ipv4, source.ipv6, source.ipv4, source.ipv6]);
});
