import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import net from 'node:net';
import { after, before, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { ListeningSockets } from '../../../../../agent/dataplane/pool/listening-sockets.js';
import { WorkerPool } from '../../../../../agent/dataplane/pool/worker-pool.js';
import type { FromWorker, LocalWorkload } from '../../../../../agent/dataplane/messages.js';
import { steerGroup } from '../../../../../agent/native/addon.js';
import { duplicate, listenerOf } from '../../../../../agent/native/passed-sockets.js';
import { netnsInode } from '../../../../../agent/native/netns.js';
import { createLab, type Lab } from '../../../../lab/lab.js';
import { patientSignal } from '../../../../lab/patience.js';
import { testSettings } from '../../../../support/agent/dataplane-mesh.js';
import { nodeNamed, workloadNamed } from '../../../../support/routing/names.js';

let lab: Lab;
let web: LocalWorkload;

before(async () => {
  const workloads = [{ name: 'web', namespace: 'shop', serviceAccount: 'web' }];
  lab = await createLab({ hosts: [{ name: 'node1', workloads }] });
  const { netnsPath } = lab.workload('web');
  web = { name: workloadNamed('shop/web'), netnsPath, netnsInode: netnsInode(netnsPath) ?? 0 };
});

after(async () => {
  await lab.close();
});

const connect = (): Promise<net.Socket> => lab.workload('web').connect({ ip: lab.workload('web').ipv4, port: 15001 });
const refusal = (): Promise<string> =>
  connect().then(
    () => 'connected',
    (error: NodeJS.ErrnoException) => error.code ?? '',
  );

function outboundOf(sockets: ListeningSockets): readonly (readonly number[])[] {
  const opened = sockets.openFor([web]).get(web.name);
  assert.ok(opened?.kind === 'open', JSON.stringify(opened));
  return opened.fds.outbound;
}

test('the sockets of three workers go to two, with the connections that wait in them', async () => {
  const first = new ListeningSockets({ workers: 3, backlog: 16 });
  assert.deepEqual(
    outboundOf(first).map((fds) => fds.length),
    [1, 1, 1],
  );
  const waiting = await Promise.all(Array.from({ length: 12 }, connect));
  const kept = first.all().map(duplicate);
  first.closeAll();
  const second = new ListeningSockets({ workers: 2, backlog: 16, kept });
  const taken = outboundOf(second);
  assert.deepEqual(
    taken.map((fds) => fds.length),
    [2, 1],
  );
  const servers = taken
    .flat()
    .map((fd) => net.createServer((socket) => socket.end('served')).listen({ fd: duplicate(fd) }));
  for (const socket of waiting) {
    socket.setEncoding('utf8');
    const [text] = (await once(socket, 'data', { signal: patientSignal(10_000) })) as [string];
    assert.equal(text, 'served');
    socket.destroy();
  }
  for (const server of servers) server.close();
  second.closeAll();
  assert.equal(await refusal(), 'ECONNREFUSED');
});

test('a workload that leaves, and what no workload claims, is refused and not kept waiting', async () => {
  const first = new ListeningSockets({ workers: 1, backlog: 16 });
  outboundOf(first);
  const heirs = new ListeningSockets({ workers: 1, backlog: 16, kept: first.all().map(duplicate) });
  first.openFor([]);
  assert.deepEqual(first.all(), []);
  assert.equal(await refusal(), 'connected');
  heirs.closeUnclaimed();
  assert.equal(await refusal(), 'ECONNREFUSED');
});

test('the sockets of a worker that died are closed, and opened again with the next list', async () => {
  let changes = 0;
  const sockets = new ListeningSockets({ workers: 1, backlog: 16, onChange: () => changes++ });
  outboundOf(sockets);
  sockets.dropWorker(0);
  assert.equal(await refusal(), 'ECONNREFUSED');
  assert.equal(outboundOf(sockets)[0]?.length, 1);
  assert.equal(await refusal(), 'connected');
  assert.ok(changes >= 3);
  sockets.closeAll();
});

const absences: readonly [string, (sockets: ListeningSockets, workerIndex: number) => void][] = [
  ['died', (sockets, index) => sockets.dropWorker(index)],
  ['cannot listen', (sockets, index) => sockets.closeFor(index, web.name)],
];
for (const [what, leave] of absences)
  test(`a copy that another process keeps of the socket of a worker that ${what} takes no connection`, async () => {
    const sockets = new ListeningSockets({ workers: 3, backlog: 16 });
    outboundOf(sockets).forEach(([fd = -1]) => steerGroup(fd));
    const kept = sockets.all().map(duplicate);
    const first = web.netnsInode % 3;
    leave(sockets, first);
    assert.equal(kept.filter((fd) => listenerOf(fd) === null).length, 3, 'one of each port');
    let served = 0;
    const alive = outboundOf(sockets).filter((_, index) => index !== first);
    const servers = alive.map(([fd = -1]) =>
      net.createServer((socket) => void (served++, socket.end('served'))).listen({ fd: duplicate(fd) }),
    );
    const clients = await Promise.all(Array.from({ length: 12 }, connect));
    for (const socket of clients) {
      await once(socket, 'data', { signal: patientSignal(10_000) });
      socket.destroy();
    }
    assert.equal(served, 12);
    for (const server of servers) server.close();
    kept.forEach(closeSync);
    sockets.closeAll();
  });

test('sockets that another agent has too stay with a worker that died or cannot listen, until that agent has gone', async () => {
  let isShared = true;
  const sockets = new ListeningSockets({ workers: 2, backlog: 16, isShared: () => isShared });
  const before = outboundOf(sockets);
  const copies = sockets.all().map(duplicate);
  sockets.dropWorker(0);
  sockets.closeFor(1, web.name);
  assert.deepEqual(outboundOf(sockets), before, 'the next worker accepts on them');
  copies.forEach(closeSync);
  isShared = false;
  sockets.dropWorker(0);
  sockets.closeFor(1, web.name);
  assert.equal(await refusal(), 'ECONNREFUSED');
  sockets.closeAll();
});

test('a worker that could not listen keeps its sockets when it has a later list, with which it may listen', async () => {
  const silent = { info: () => {}, warn: () => {}, error: () => {} };
  const thread = Object.assign(new EventEmitter(), {
    postMessage: () => undefined,
    terminate: async () => void thread.emit('exit', 0),
  });
  const pool = new WorkerPool({
    workers: 1,
    node: nodeNamed('node1'),
    trustDomain: 'culvert.test',
    settings: { ...testSettings, listenBacklog: 16 },
    log: silent,
    spawn: () => thread as unknown as Worker,
  });
  const started = pool.start();
  thread.emit('message', { type: 'online' } satisfies FromWorker);
  await started;
  // The first list is the one that every worker gets when it starts.
  pool.send({ type: 'workloads', workloads: [web] });
  pool.send({ type: 'workloads', workloads: [web] });
  const answer = { type: 'listening', workload: web.name, netnsInode: web.netnsInode, error: 'EMFILE' } as const;
  const late = { isOpen: false, problem: null };
  thread.emit('message', { ...answer, list: 2, late } satisfies FromWorker);
  assert.equal(pool.sockets.all().length, 3);
  thread.emit('message', { ...answer, list: 3, late } satisfies FromWorker);
  assert.equal(pool.sockets.all().length, 0);
  await pool.drain(0);
});

test('a descriptor that is no listening socket is closed and not served', () => {
  const file = openSync('/dev/null', 'r');
  const sockets = new ListeningSockets({ workers: 1, backlog: 16, kept: [file] });
  assert.throws(() => duplicate(file), { code: 'EBADF' });
  assert.equal(listenerOf(outboundOf(sockets)[0]?.[0] ?? -1)?.port, 15001);
  sockets.closeAll();
});

test('a workload whose namespace was replaced, or whose port is taken, gets the problem', async () => {
  const sockets = new ListeningSockets({ workers: 1, backlog: 16 });
  const stale = { ...web, netnsInode: web.netnsInode + 1 };
  const answer = sockets.openFor([stale]).get(web.name);
  assert.match(answer?.kind === 'failed' ? answer.problem : '', /was replaced by another one/);
  await using _foreign = await lab.workload('web').listen({ port: 15006 }, (socket) => socket.destroy());
  const taken = sockets.openFor([web]).get(web.name);
  assert.match(taken?.kind === 'failed' ? taken.problem : '', /port 15006.*EADDRINUSE.*ss -ltnp/);
  assert.deepEqual(sockets.all(), [], 'all or none');
});
