import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import net, { type SocketConstructorOpts } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { planSynQueue, planSynVerdicts } from '../../../../../agent/capture/firewall/late-accept-rules.js';
import { planUnredirected } from '../../../../../agent/capture/firewall/unredirected-rules.js';
import { TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import { Reactor } from '../../../../../agent/dataplane/io/reactor.js';
import { mostHeld } from '../../../../../agent/dataplane/listen/late/connect-queue.js';
import type { HeldConnect } from '../../../../../agent/dataplane/listen/late/held-connect.js';
import { LateHosting } from '../../../../../agent/dataplane/listen/late/late-hosting.js';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { addressesOf } from '../../../../../agent/dataplane/sockets/socket-addresses.js';
import { listenTcp } from '../../../../../agent/native/addon.js';
import { dialSocket } from '../../../../../agent/native/dial-sockets.js';
import { netnsInode } from '../../../../../agent/native/netns.js';
import { openSynQueue } from '../../../../../agent/native/syn-queue.js';
import { lateAcceptPorts, synQueueNumber } from '../../../../../agent/ports.js';
import { waitUntil } from '../../../../lab/wait-until.js';
import { rawSynSender } from '../../../../support/agent/raw-syn.js';
import { untilReachable } from '../../../../support/agent/reachable-address.js';
import { temporaryDirectory } from '../../../../support/controller/controller-fixture.js';
import { workloadNamed } from '../../../../support/routing/names.js';

/** On 7000 connects are held, on 7001 they are only looked at, and then refused by the kernel. */
const [late, looked] = [7000, 7001];
const target = { 4: '198.19.8.2', 6: 'fd00:19:8::2' } as const;
const netns = `late${randomBytes(3).toString('hex')}`;
const path = `/run/netns/${netns}`;
let workload: HostedWorkload;

before(() => {
  const unredirected = planUnredirected(['-m addrtype --dst-type LOCAL -j RETURN']);
  const rules = (['iptables', 'ip6tables'] as const).flatMap((iptables) => [
    ...planSynQueue([late, looked], []).map((rule) => `${iptables} -t mangle -A OUTPUT ${rule}`),
    ...planSynVerdicts([late]).map((rule) => `${iptables} -t nat -A OUTPUT ${rule}`),
    ...unredirected.rules.map((rule) => `${iptables} -t filter -A ${unredirected.hook} ${rule}`),
    `${iptables} -t nat -A OUTPUT -p tcp --dport ${looked} -j REDIRECT --to-ports 9`,
  ]);
  const script = [
    `ip netns add ${netns}; ip -n ${netns} link set lo up`,
    `ip -n ${netns} addr add 198.19.8.1/32 dev lo; ip -n ${netns} addr add fd00:19:8::1/128 dev lo nodad`,
    untilReachable(netns, 'fd00:19:8::1'),
    `ip -n ${netns} route add 198.19.8.2 dev lo; ip -n ${netns} route add fd00:19:8::2 dev lo`,
    ...rules.map((rule) => `nsenter --net=${path} ${rule}`),
  ].join('\n');
  execFileSync('sh', ['-ec', script]);
  const name = workloadNamed('test/late');
  workload = HostedWorkload.open({ name, netnsPath: path, netnsInode: netnsInode(path) ?? 0, slot: 0 });
});
after(() => {
  workload.close();
  execFileSync('ip', ['netns', 'del', netns]);
});

let hosting: LateHosting | null = null;
const held: HeldConnect[] = [];
const dialled: net.Socket[] = [];
let states = 0;
let unheld: number[] = [];

function host(): LateHosting {
  hosting = new LateHosting({
    isMine: () => true,
    backlog: 128,
    handlers: {
      isLate: ({ port }) => port === late,
      held: (_workload, connect) => void held.push(connect),
      unheld: (_workload, { handle }) => void unheld.push(handle),
      acceptFailed: (_workload, error) => assert.fail(error),
    },
    onState: () => (states += 1),
  });
  return hosting;
}
afterEach(() => {
  hosting?.releaseAll();
  for (const socket of dialled.splice(0)) socket.destroy();
  for (const handle of unheld.splice(0)) Reactor.ofThread().calls.ioClose(handle, 0);
  held.length = 0;
});

function dial(family: 4 | 6, port: number): net.Socket {
  const fd = dialSocket({ netnsFd: workload.netnsFd, family, mark: 0 });
  const socket = new net.Socket({ fd, manualStart: true } as SocketConstructorOpts);
  socket.on('error', () => {});
  dialled.push(socket);
  return socket.connect({ host: target[family], port });
}

async function failureOf(socket: net.Socket): Promise<string | undefined> {
  const [error] = (await once(socket, 'error').catch((thrown: unknown) => [thrown])) as [NodeJS.ErrnoException];
  return error.code;
}

async function nextHeld(): Promise<HeldConnect> {
  return await waitUntil('a held connect', () => held.shift());
}

for (const family of [4, 6] as const) {
  test(`over IPv${family} a held connect waits, and is accepted or refused as it is told`, async () => {
    const hosted = host();
    hosted.apply(workload, true);
    assert.deepEqual(hosted.stateOf(workload), { isOpen: true, problem: null });
    const [first, second] = [dial(family, late), dial(family, late)];
    const connects = [await nextHeld(), await nextHeld()];
    assert.equal(hosted.held, 2);
    assert.deepEqual(
      connects.map((connect) => ({ ...connect.dialled })),
      [0, 1].map(() => ({ ip: target[family], port: late })),
    );
    assert.ok(first.connecting && second.connecting);
    const connected = once(first, 'connect');
    const accepted = await connects[0]?.accept(new TerminationSignal());
    await connected;
    assert.equal(
      accepted === null || accepted === undefined ? null : addressesOf(accepted)?.peer?.port,
      first.localPort,
    );
    accepted?.close();
    const failed = failureOf(second);
    connects[1]?.refuse();
    assert.equal(await failed, 'ECONNREFUSED');
    assert.equal(hosted.held, 0);
  });
}

test('a connect to a destination that did not ask for it goes on at once', async () => {
  host().apply(workload, true);
  assert.equal(await failureOf(dial(4, looked)), 'ECONNREFUSED');
  assert.equal(held.length, 0);
});

test('a SYN that is forgotten is sent again', async () => {
  host().apply(workload, true);
  const socket = dial(4, late);
  (await nextHeld()).forget();
  const again = await nextHeld();
  assert.ok(socket.connecting);
  const connected = once(socket, 'connect');
  (await again.accept(new TerminationSignal()))?.close();
  await connected;
});

test('a client that left is noticed, also when its SYN had gone on', async () => {
  host().apply(workload, true);
  const socket = dial(4, late);
  const connect = await nextHeld();
  socket.destroy();
  assert.equal(await connect.accept(new TerminationSignal()), null);
  assert.equal(connect.isLetGo, false);
});

test('a SYN that no socket of the workload waits for opens nothing: one with a forged source, or of an open connection', async () => {
  await using directory = await temporaryDirectory();
  const send = rawSynSender({ directory: directory.path, netns });
  const hosted = host();
  hosted.apply(workload, true);
  const to = { ip: target[4], port: late };
  for (let from = 1; from <= 20; from++) send({ ip: `198.19.9.${from}`, port: 1024 }, to);
  const client = dial(4, late);
  const [connected, connect] = [once(client, 'connect'), await nextHeld()];
  assert.deepEqual([connect.client.port, hosted.held], [client.localPort, 1], 'only the one in connect(2) is held');
  const accepted = await connect.accept(new TerminationSignal());
  await connected;
  send({ ip: '198.19.8.1', port: connect.client.port }, to);
  // It comes after that.
  assert.equal(await failureOf(dial(4, looked)), 'ECONNREFUSED');
  assert.deepEqual([held.length, hosted.held, client.destroyed], [0, 0, false]);
  accepted?.close();
});

test('more connects than the bound are not held', async () => {
  const hosted = host();
  hosted.apply(workload, true);
  for (let count = 0; count < mostHeld + 50; count++) dial(4, late);
  // It comes after all of them.
  assert.equal(await failureOf(dial(4, looked)), 'ECONNREFUSED');
  assert.deepEqual([held.length, hosted.held], [mostHeld, mostHeld]);
});

test('closing lets connects go, whose clients find the next queue', async () => {
  const first = host();
  first.apply(workload, true);
  const socket = dial(4, late);
  const connect = await nextHeld();
  first.releaseAll();
  assert.equal(connect.isLetGo, true);
  connect.refuse();
  host().apply(workload, true);
  const again = await nextHeld();
  const connected = once(socket, 'connect');
  (await again.accept(new TerminationSignal()))?.close();
  await connected;
});

test('a queue that another process has is opened as soon as it is free, and that is told', async () => {
  const other = openSynQueue({
    netnsFd: workload.netnsFd,
    number: synQueueNumber,
    maxLength: 10,
    onMessage: () => assert.fail('no packet is expected'),
  });
  const hosted = host();
  hosted.apply(workload, true);
  assert.deepEqual(hosted.stateOf(workload), { isOpen: false, problem: null });
  const before = states;
  other.destroy();
  await waitUntil('the queue', () => (hosted.stateOf(workload).isOpen ? true : undefined));
  assert.equal(states, before + 1);
});

test('what cannot be opened by waiting is a problem at once, and nothing of it stays open', async () => {
  const hosted = host();
  const gone = HostedWorkload.open({
    name: workload.name,
    netnsPath: path,
    netnsInode: workload.netnsInode,
    slot: 1,
  });
  gone.close();
  hosted.apply(gone, true);
  assert.match(hosted.stateOf(gone).problem ?? '', /has left this node/);
  const { netnsFd } = workload;
  const taken = listenTcp({ netnsFd, host: '::', port: lateAcceptPorts.accepted, backlog: 1, reusePort: false });
  hosted.apply(workload, true);
  assert.deepEqual(hosted.stateOf(workload), { isOpen: false, problem: null }, 'it may be the process before this one');
  closeSync(taken);
  await waitUntil('the listener', () => (hosted.stateOf(workload).isOpen ? true : undefined));
});
