import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import net from 'node:net';
import { after, before, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { ListeningSockets } from '../../../../../agent/dataplane/pool/listening-sockets.js';
import { WorkerPool } from '../../../../../agent/dataplane/pool/worker-pool.js';
import type { FromWorker, LocalWorkload, WorkloadSockets } from '../../../../../agent/dataplane/messages.js';
import { listenTcp } from '../../../../../agent/native/addon.js';
import { duplicate, listenerOf } from '../../../../../agent/native/passed-sockets.js';
import { netnsInode, openNetns } from '../../../../../agent/native/netns.js';
import { createLab, type Lab } from '../../../../lab/lab.js';
import { patientSignal } from '../../../../lab/patience.js';
import { waitUntil } from '../../../../lab/wait-until.js';
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

type Open = Extract<WorkloadSockets, { kind: 'open' }>;

function openedBy(sockets: ListeningSockets): Open {
  const opened = sockets.openFor([web]).get(web.name);
  assert.ok(opened?.kind === 'open', JSON.stringify(opened));
  return opened;
}

async function assertServed(clients: readonly net.Socket[]): Promise<void> {
  for (const socket of clients) {
    socket.setEncoding('utf8');
    const [text] = (await once(socket, 'data', { signal: patientSignal(10_000) })) as [string];
    assert.equal(text, 'served');
    socket.destroy();
  }
}

function serve(fds: readonly number[]): net.Server[] {
  return fds.map((fd) => net.createServer((socket) => socket.end('served')).listen({ fd: duplicate(fd) }));
}

test('one socket for each port goes to the next process, with the connections that wait in it', async () => {
  const first = new ListeningSockets({ workers: 3, backlog: 16 });
  assert.equal(openedBy(first).fds.outbound.length, 1);
  const waiting = await Promise.all(Array.from({ length: 12 }, connect));
  const kept = first.all().map(duplicate);
  assert.equal(kept.length, 3);
  first.closeAll();
  const second = new ListeningSockets({ workers: 2, backlog: 16, kept });
  const servers = serve(openedBy(second).fds.outbound);
  await assertServed(waiting);
  for (const server of servers) server.close();
  second.closeAll();
  assert.equal(await refusal(), 'ECONNREFUSED');
});

test('all sockets of an agent that had one for each worker are taken over', async () => {
  const netns = openNetns(web.netnsPath);
  const of = { netnsFd: netns.fd, host: '::', backlog: 16, reusePort: true };
  const kept = [15001, 15006, 15008].flatMap((port) => [listenTcp({ ...of, port }), listenTcp({ ...of, port })]);
  closeSync(netns.fd);
  const waiting = await Promise.all(Array.from({ length: 12 }, connect));
  const sockets = new ListeningSockets({ workers: 2, backlog: 16, kept });
  const { outbound } = openedBy(sockets).fds;
  assert.equal(outbound.length, 2);
  const servers = serve(outbound);
  await assertServed(waiting);
  for (const server of servers) server.close();
  sockets.closeAll();
});

test('a workload that leaves, and what no workload claims, is refused and not kept waiting', async () => {
  const first = new ListeningSockets({ workers: 1, backlog: 16 });
  openedBy(first);
  const heirs = new ListeningSockets({ workers: 1, backlog: 16, kept: first.all().map(duplicate) });
  first.openFor([]);
  assert.deepEqual(first.all(), []);
  assert.equal(await refusal(), 'connected');
  heirs.closeUnclaimed();
  assert.equal(await refusal(), 'ECONNREFUSED');
});

test('when the worker that accepts ends, another one does, and what waits is served', async () => {
  const sockets = new ListeningSockets({ workers: 3, backlog: 16 });
  const before = openedBy(sockets);
  assert.equal(before.acceptor, web.netnsInode % 3, 'another one for each workload');
  const waiting = await Promise.all(Array.from({ length: 12 }, connect));
  sockets.workerLost(before.acceptor);
  const after = openedBy(sockets);
  assert.notEqual(after.acceptor, before.acceptor);
  assert.deepEqual(after.fds, before.fds);
  const servers = serve(after.fds.outbound);
  await assertServed(waiting);
  for (const server of servers) server.close();
  sockets.workerBack(before.acceptor);
  assert.equal(openedBy(sockets).acceptor, after.acceptor, 'it is not moved without need');
  for (const index of [0, 1, 2]) sockets.workerLost(index);
  sockets.workerBack(before.acceptor);
  assert.equal(openedBy(sockets).acceptor, before.acceptor, 'the first one that is back');
  sockets.closeAll();
});

test('when nothing accepts, connections are refused, also on copies that another process keeps, until the next list', async () => {
  let changes = 0;
  const sockets = new ListeningSockets({ workers: 1, backlog: 16, onChange: () => changes++ });
  openedBy(sockets);
  const kept = sockets.all().map(duplicate);
  sockets.endListening();
  assert.equal(kept.filter((fd) => listenerOf(fd) === null).length, 3);
  assert.equal(await refusal(), 'ECONNREFUSED');
  openedBy(sockets);
  assert.equal(await refusal(), 'connected');
  assert.ok(changes >= 3);
  kept.forEach(closeSync);
  sockets.closeAll();
});

test('a worker that cannot listen loses its sockets to another one', async () => {
  const sockets = new ListeningSockets({ workers: 2, backlog: 16 });
  const { acceptor } = openedBy(sockets);
  sockets.closeFor(1 - acceptor, web.name);
  assert.equal(await refusal(), 'connected', 'it is not the one that accepts');
  sockets.closeFor(acceptor, web.name);
  assert.equal(await refusal(), 'ECONNREFUSED');
  assert.equal(openedBy(sockets).acceptor, 1 - acceptor);
  assert.equal(await refusal(), 'connected');
  sockets.closeAll();
});

test('sockets that another agent has too stay, although no worker accepts on them', async () => {
  let isShared = true;
  const sockets = new ListeningSockets({ workers: 2, backlog: 16, isShared: () => isShared });
  const before = openedBy(sockets);
  sockets.endListening();
  sockets.closeFor(before.acceptor, web.name);
  assert.deepEqual(openedBy(sockets), { ...before, acceptor: 1 - before.acceptor });
  isShared = false;
  sockets.endListening();
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

test('no socket of another program can join them, however it asks', async () => {
  const sockets = new ListeningSockets({ workers: 2, backlog: 16 });
  openedBy(sockets);
  const netns = openNetns(web.netnsPath);
  for (const host of ['::', '0.0.0.0', '127.0.0.1', lab.workload('web').ipv4, lab.workload('web').ipv6]) {
    const join = (): number => listenTcp({ netnsFd: netns.fd, host, port: 15001, backlog: 16, reusePort: true });
    assert.throws(join, { code: 'EADDRINUSE' }, host);
  }
  closeSync(netns.fd);
  sockets.closeAll();
});

test('a descriptor that is no listening socket is closed and not served', () => {
  const file = openSync('/dev/null', 'r');
  const sockets = new ListeningSockets({ workers: 1, backlog: 16, kept: [file] });
  assert.throws(() => duplicate(file), { code: 'EBADF' });
  assert.equal(listenerOf(openedBy(sockets).fds.outbound[0] ?? -1)?.port, 15001);
  sockets.closeAll();
});

test('a workload whose namespace was replaced, or whose port is taken, gets the problem', async () => {
  const sockets = new ListeningSockets({ workers: 1, backlog: 16 });
  const stale = { ...web, netnsInode: web.netnsInode + 1 };
  const answer = sockets.openFor([stale]).get(web.name);
  assert.match(answer?.kind === 'failed' ? answer.problem : '', /was replaced by another one/);
  await using _foreign = await lab.workload('web').listen({ port: 15006 }, (socket) => socket.destroy());
  const taken = sockets.openFor([web]).get(web.name);
  assert.match(
    taken?.kind === 'failed' ? taken.problem : '',
    /port 15006.*EADDRINUSE: a program of uid 0 has it.*ss -ltnp/,
  );
  assert.deepEqual(sockets.all(), [], 'all or none');
});

/** Opens the given number of files before it takes the port. */
const squatter = `
  use strict;
  use Socket;
  $| = 1;
  my @files;
  for (1 .. shift) { open(my $file, '<', '/dev/null') or die $!; push @files, $file }
  socket(my $socket, AF_INET, SOCK_STREAM, 0) or die $!;
  bind($socket, pack_sockaddr_in(15008, INADDR_ANY)) && listen($socket, 1) or die $!;
  print "ready\n";
  sleep;
`;

for (const [files, expected] of [
  [1, /EADDRINUSE: pid \d+ \(perl\) of uid 0 has it/],
  [1500, /EADDRINUSE: a program of uid 0 \(too many processes or descriptors to find which\) has it/],
] as const) {
  test(`a program with ${files} files that has a port is looked for while the agent works on`, async () => {
    const run = `ulimit -n 4096; exec perl -e "$0" ${files}`;
    await using program = await lab.workload('web').spawn(['sh', '-c', run, squatter]);
    await program.waitForLine(/^ready$/);
    const sockets = new ListeningSockets({ workers: 1, backlog: 16 });
    const problem = (): string => {
      const answer = sockets.openFor([web]).get(web.name);
      return answer?.kind === 'failed' ? answer.problem : '';
    };
    assert.match(problem(), /EADDRINUSE: a program of uid 0 has it/, 'nothing waits for the search');
    await waitUntil('the answer of the search', () => (expected.test(problem()) ? true : undefined));
    await program.stop('SIGKILL');
    sockets.closeAll();
  });
}
