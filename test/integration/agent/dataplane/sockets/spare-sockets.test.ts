import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import net from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { DescriptorReserve } from '../../../../../agent/dataplane/sockets/descriptor-reserve.js';
import { closeFd, listenTcp } from '../../../../../agent/native/addon.js';
import { aimSpare } from '../../../../../agent/native/dial-sockets.js';
import { netnsInode } from '../../../../../agent/native/netns.js';
import { parseIp } from '../../../../../shared/address.js';
import { workloadNamed } from '../../../../support/routing/names.js';
import { eventually } from '../../../../support/tunnel/tunnel-pair.js';

const name = `spr${randomBytes(3).toString('hex')}`;
const netnsPath = `/run/netns/${name}`;
const borrowed = parseIp('203.0.113.9') ?? assert.fail();

const addNamespace = (): void => {
  execFileSync('sh', ['-ec', `ip netns add ${name}; ip -n ${name} link set lo up`]);
};
const openWorkload = (): HostedWorkload =>
  HostedWorkload.open({
    name: workloadNamed('test/dials'),
    netnsPath,
    netnsInode: netnsInode(netnsPath) ?? assert.fail(),
    slot: 0,
  });
/** TCP sockets that this process has open. */
const openSockets = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;

describe('sockets that a workload has ready to dial with', () => {
  let descriptors: DescriptorReserve;
  let before_: number;
  before(addNamespace);
  after(() => execFileSync('ip', ['netns', 'del', name]));
  beforeEach(() => {
    descriptors = new DescriptorReserve({ limit: 65_536 });
    before_ = openSockets();
  });

  const takeMany = (workload: HostedWorkload, count: number, family: 4 | 6 = 4): void => {
    for (let each = 0; each < count; each++) closeFd(workload.dialSocket(family, descriptors));
  };

  test('are none for a dial now and then, more for many, and closed when nothing takes them', async () => {
    const workload = openWorkload();
    takeMany(workload, 1);
    assert.equal(openSockets(), before_);
    takeMany(workload, 1);
    assert.equal(openSockets(), before_ + 1);
    // 1 + 2 + 4 + 8, and the first of 16.
    takeMany(workload, 14);
    assert.equal(openSockets(), before_ + 15);
    takeMany(workload, 100);
    assert.ok(openSockets() <= before_ + 15);
    takeMany(workload, 4, 6);
    assert.ok(openSockets() <= before_ + 15 + 3);
    await eventually('spare sockets are closed', () => openSockets() === before_);
    takeMany(workload, 1);
    assert.equal(openSockets(), before_, 'it begins with one again');
    workload.close();
  });

  test('end with the workload', () => {
    const workload = openWorkload();
    takeMany(workload, 20);
    assert.ok(openSockets() > before_);
    workload.close();
    assert.equal(openSockets(), before_);
    assert.throws(() => workload.dialSocket(4, descriptors), { code: 'EBADF' });
  });

  test('are limited in number for all workloads together, and none where few descriptors are left', () => {
    descriptors = new DescriptorReserve({ limit: 1024 });
    const workloads = [openWorkload(), openWorkload()];
    for (const workload of workloads) takeMany(workload, 16);
    assert.equal(openSockets(), before_ + 16);
    for (const workload of workloads) workload.close();
    assert.equal(descriptors.setAside(1000), 16, 'all are given back');

    // Every number that the kernel gives is beyond the limit.
    descriptors = new DescriptorReserve({ limit: 128 });
    const held = Array.from({ length: 128 }, () =>
      listenTcp({ netnsFd: null, host: '127.0.0.1', port: 0, backlog: 1, reusePort: false }),
    );
    const workload = openWorkload();
    takeMany(workload, 16);
    for (const fd of held) closeFd(fd);
    assert.equal(openSockets(), before_);
    workload.close();
  });

  test('dial as the client that they are taken for, or from an address of the namespace', async () => {
    const workload = openWorkload();
    const fd = listenTcp({ netnsFd: workload.netnsFd, host: '::', port: 7300, backlog: 16, reusePort: false });
    const server = net.createServer();
    server.listen({ fd });
    await once(server, 'listening');
    execFileSync('sh', ['-ec', `ip -n ${name} route add local 203.0.113.9 dev lo`]);
    takeMany(workload, 2);
    for (const source of [{ transparentSource: borrowed, sourcePort: 40_404 }, {}, { transparentSource: borrowed }]) {
      const dialled = workload.dialSocket(4, descriptors);
      aimSpare(dialled, 4, source);
      const accepted = once(server, 'connection');
      const socket = dialOn(dialled, 7300);
      const [peer] = (await accepted) as [net.Socket];
      const from = 'transparentSource' in source ? borrowed : '127.0.0.1';
      assert.equal(peer.remoteAddress, `::ffff:${from}`);
      if ('sourcePort' in source) assert.equal(peer.remotePort, source.sourcePort);
      peer.destroy();
      socket.destroy();
    }
    server.close();
    workload.close();
  });

  test('of a namespace that was replaced are never used in the new one', async () => {
    const old = openWorkload();
    takeMany(old, 4);
    const spares = openSockets();
    execFileSync('ip', ['netns', 'del', name]);
    addNamespace();
    const next = openWorkload();
    assert.notEqual(next.netnsInode, old.netnsInode);
    old.close();
    assert.ok(openSockets() < spares);
    const fd = listenTcp({ netnsFd: next.netnsFd, host: '127.0.0.1', port: 7301, backlog: 64, reusePort: false });
    const server = net.createServer((socket) => socket.destroy());
    server.listen({ fd });
    await once(server, 'listening');
    for (let each = 0; each < 40; each++) {
      const dialled = next.dialSocket(4, descriptors);
      aimSpare(dialled, 4, {});
      const socket = dialOn(dialled, 7301);
      await once(socket, 'connect');
      socket.destroy();
    }
    server.close();
    next.close();
  });
});

function dialOn(fd: number, port: number): net.Socket {
  const init: net.SocketConstructorOpts & { manualStart: true } = { fd, manualStart: true };
  const socket = new net.Socket(init);
  socket.on('error', () => undefined);
  return socket.connect({ host: '127.0.0.1', port });
}
