import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { createServer, type Server, Socket, type SocketConstructorOpts } from 'node:net';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { acceptedFd, listenTcp, originalDestination, readProcFile } from '../../../../agent/native/addon.js';
import { dialSocket } from '../../../../agent/native/dial-sockets.js';
import { netnsInode, openNetns, ownNetnsInode } from '../../../../agent/native/netns.js';
import { readNamespaceFiles } from '../../../../agent/telemetry/namespace-probe.js';
import type { IpAddress } from '../../../../shared/address.js';
import { CulvertError } from '../../../../shared/errors.js';
import { patientSignal } from '../../../lab/patience.js';
import { untilReachable } from '../../../support/agent/reachable-address.js';

const netns = `nat${randomBytes(3).toString('hex')}`;
const path = `/run/netns/${netns}`;
let fd: number;
let inode: number;

before(() => {
  const script = `ip netns add ${netns}; ip -n ${netns} link set lo up
    nsenter --net=${path} sysctl -qw net.ipv6.conf.default.accept_dad=0
    ip -n ${netns} addr add 198.19.9.1/32 dev lo; ip -n ${netns} addr add fd00:19:9::1/128 dev lo nodad
    ${untilReachable(netns, 'fd00:19:9::1')}
    ip -n ${netns} route add local default dev lo table 7; ip -n ${netns} rule add pref 7 to 203.0.113.0/24 lookup 7
    nsenter --net=${path} iptables -t nat -A OUTPUT -p tcp -d 198.19.9.1 --dport 7000 -j REDIRECT --to-ports 7001
    nsenter --net=${path} ip6tables -t nat -A OUTPUT -p tcp -d fd00:19:9::1 --dport 7000 -j REDIRECT --to-ports 7001`;
  execFileSync('sh', ['-ec', script]);
  ({ fd, inode } = openNetns(path));
});
after(() => {
  closeSync(fd);
  execFileSync('ip', ['netns', 'del', netns]);
});

async function serve(port: number, o: { reusePort?: boolean; host?: string } = {}): Promise<Server & AsyncDisposable> {
  const host = o.host ?? '::';
  const listenFd = listenTcp({ netnsFd: fd, host, port, backlog: 128, reusePort: false, ...o });
  const server = createServer({ pauseOnConnect: true });
  server.listen({ fd: listenFd, backlog: 128 });
  await once(server, 'listening');
  const dispose = async (): Promise<void> => {
    server.close();
    await once(server, 'close');
  };
  return Object.assign(server, { [Symbol.asyncDispose]: dispose });
}

function connect(ip: string, port: number, source?: string): Socket {
  const transparent = source === undefined ? {} : { transparentSource: source as IpAddress };
  const dialFd = dialSocket({ netnsFd: fd, family: ip.includes(':') ? 6 : 4, mark: 0x539, ...transparent });
  const init: SocketConstructorOpts & { manualStart: true } = { fd: dialFd, manualStart: true, allowHalfOpen: true };
  const socket = new Socket(init);
  socket.on('error', () => {});
  socket.connect({ host: ip, port });
  return socket;
}

async function accept(server: Server): Promise<Socket> {
  const [socket] = (await once(server, 'connection', { signal: patientSignal(30_000) })) as [Socket];
  socket.on('error', () => {});
  return socket;
}

/** The code of the CulvertError that a step throws. */
function codeOf(step: () => unknown): string {
  try {
    step();
    return 'nothing was thrown';
  } catch (error) {
    return error instanceof CulvertError ? `${error.code} ${error.message}` : String(error);
  }
}

test('sockets live in the namespace that was asked for, and this thread stays in its own', async () => {
  const own = readlinkSync('/proc/thread-self/ns/net');
  await using server = await serve(7100);
  for (const ip of ['198.19.9.1', 'fd00:19:9::1', '127.0.0.1']) {
    const client = connect(ip, 7100);
    const socket = await accept(server);
    assert.equal(socket.localAddress?.replace('::ffff:', ''), ip);
    client.destroy();
    socket.destroy();
  }
  assert.equal(readlinkSync('/proc/thread-self/ns/net'), own);
  assert.equal(ownNetnsInode(), netnsInode('/proc/self/ns/net'));
  assert.notEqual(ownNetnsInode(), inode);
  assert.match(execFileSync('nsenter', [`--net=${path}`, 'ss', '-Hltn']).toString(), /:7100/);
  assert.doesNotMatch(execFileSync('ss', ['-Hltn']).toString(), /:7100\b/);
});

test('the original destination of a redirected connection is read for IPv4 and IPv6', async () => {
  await using server = await serve(7001);
  for (const [ip, localFamily] of [
    ['198.19.9.1', 4],
    ['fd00:19:9::1', 6],
  ] as const) {
    const client = connect(ip, 7000);
    const socket = await accept(server);
    assert.deepEqual(originalDestination({ fd: acceptedFd(socket), localFamily }), { ip, port: 7000 });
    client.destroy();
    socket.destroy();
  }
});

test('the original destination of a connection without a redirect is its own', async () => {
  await using server = await serve(7002);
  const client = connect('198.19.9.1', 7002);
  const socket = await accept(server);
  assert.deepEqual(originalDestination({ fd: acceptedFd(socket), localFamily: 4 }), { ip: '198.19.9.1', port: 7002 });
  client.destroy();
  socket.destroy();
  const server2 = createServer();
  server2.listen(0, '127.0.0.1');
  await once(server2, 'listening');
  const address = server2.address();
  assert.ok(address !== null && typeof address === 'object');
  const untracked = new Socket().connect(address.port, '127.0.0.1');
  const accepted = await accept(server2);
  const found = originalDestination({ fd: acceptedFd(accepted), localFamily: 4 });
  assert.ok(found === null || found.port === address.port);
  untracked.destroy();
  accepted.destroy();
  assert.match(
    codeOf(() => acceptedFd(accepted)),
    /^EBADF/,
  );
  server2.close();
});

test('a borrowed source address is what the other side sees', async () => {
  await using server = await serve(7003);
  const client = connect('198.19.9.1', 7003, '203.0.113.5');
  const socket = await accept(server);
  assert.equal(socket.remoteAddress, '::ffff:203.0.113.5');
  await once(client, 'connect');
  client.destroy();
  socket.destroy();
});

/** TCP_NODELAY of a socket (linux/tcp.h), read by another process: Node cannot. */
function hasNoDelay(socketFd: number): boolean {
  const read = 'open(my $s, "+<&=3"); print unpack "i", getsockopt($s, 6, 1)';
  return execFileSync('perl', ['-e', read], { stdio: ['ignore', 'pipe', 'inherit', socketFd] }).toString() === '1';
}

test('accepted and dialled connections send small messages at once', async () => {
  await using server = await serve(7010);
  const client = connect('198.19.9.1', 7010);
  const socket = await accept(server);
  assert.ok(hasNoDelay(acceptedFd(socket)));
  assert.ok(hasNoDelay(acceptedFd(client)));
  client.destroy();
  socket.destroy();
});

test('listeners that share a port share the connections', async () => {
  await using one = await serve(7004, { reusePort: true });
  await using two = await serve(7004, { reusePort: true });
  const counts = [0, 0];
  const total = 200;
  const done = new Promise<void>((resolve) => {
    [one, two].forEach((server, index) =>
      server.on('connection', (socket: Socket) => {
        counts[index] = (counts[index] ?? 0) + 1;
        socket.destroy();
        if ((counts[0] ?? 0) + (counts[1] ?? 0) === total) resolve();
      }),
    );
  });
  const clients = Array.from({ length: total }, () => connect('198.19.9.1', 7004));
  await done;
  for (const client of clients) client.destroy();
  assert.ok(Math.min(...counts) > total / 5, `the kernel spreads them: ${counts.join(' and ')}`);
});

test('what fails carries the name of the errno and of the step', async () => {
  await using _server = await serve(7005);
  const listen = (o: { netnsFd?: number; host?: string; port?: number }): (() => number) => {
    return () => listenTcp({ netnsFd: fd, host: '::', port: 7005, backlog: 1, reusePort: false, ...o });
  };
  assert.match(codeOf(listen({})), /^EADDRINUSE listening on :: port 7005: bind the listening socket: EADDRINUSE/);
  assert.match(codeOf(listen({ host: '198.19.77.1', port: 7006 })), /^EADDRNOTAVAIL/);
  assert.match(codeOf(listen({ host: 'localhost' })), /^EINVAL listening on localhost .*parse the address/);
  assert.match(codeOf(listen({ netnsFd: 9999 })), /^EBADF .*enter the network namespace/);
  const file = openNetns('/proc/self/ns/net');
  closeSync(file.fd);
  const dial = (source: string): (() => number) => {
    return () => dialSocket({ netnsFd: fd, family: 4, mark: 0, transparentSource: source as IpAddress });
  };
  assert.match(codeOf(dial('fd00::1')), /^EINVAL .*source address/);
  assert.match(
    codeOf(() => originalDestination({ fd: 9999, localFamily: 4 })),
    /^EBADF .*SO_ORIGINAL_DST/,
  );
  assert.match(
    codeOf(() => openNetns('/run/netns/no-such')),
    /^ENOENT/,
  );
  assert.match(
    codeOf(() => openNetns('/etc/hostname')),
    /^EINVAL .*not a network namespace/,
  );
});

test('failing and succeeding calls leave no descriptor behind', () => {
  const count = (): number => readdirSync('/proc/self/fd').length;
  const listen = (port: number): number => listenTcp({ netnsFd: fd, host: '::', port, backlog: 1, reusePort: false });
  const first = listen(7007);
  const before = count();
  for (let index = 0; index < 50; index++) {
    codeOf(() => listen(7007));
    closeSync(listen(7008));
    closeSync(dialSocket({ netnsFd: fd, family: 6, mark: 1 }));
    codeOf(() => dialSocket({ netnsFd: 9999, family: 4, mark: 1 }));
  }
  assert.equal(count(), before);
  closeSync(first);
});

test('several worker threads use it at once, and neither they nor new threads change their namespace', async () => {
  const own = readlinkSync('/proc/thread-self/ns/net');
  const source = `
    import { closeSync, readlinkSync } from 'node:fs';
    import { lookup } from 'node:dns';
    import { parentPort } from 'node:worker_threads';
    import { listenTcp } from ${JSON.stringify(new URL('../../../../agent/native/addon.js', import.meta.url).href)};
    import { dialSocket } from ${JSON.stringify(new URL('../../../../agent/native/dial-sockets.js', import.meta.url).href)};
    lookup('localhost', () => {});
    for (let i = 0; i < 300; i++) {
      closeSync(listenTcp({ netnsFd: ${fd}, host: '::', port: 7009, backlog: 1, reusePort: true }));
      closeSync(dialSocket({ netnsFd: ${fd}, family: 4, mark: 5 }));
    }
    parentPort.postMessage(readlinkSync('/proc/thread-self/ns/net'));`;
  const url = new URL(`data:text/javascript,${encodeURIComponent(source)}`);
  const before = readdirSync('/proc/self/fd').length;
  const found = await Promise.all(
    [1, 2, 3].map(async () => {
      const worker = new Worker(url, { trackUnmanagedFds: false });
      // Node 26 may emit both in one turn.
      const [[namespace]] = (await Promise.all([once(worker, 'message'), once(worker, 'exit')])) as [[string], unknown];
      return namespace;
    }),
  );
  assert.deepEqual(found, [own, own, own]);
  for (const thread of readdirSync('/proc/self/task')) {
    assert.equal(readlinkSync(`/proc/self/task/${thread}/ns/net`), own);
  }
  assert.ok(readdirSync('/proc/self/fd').length <= before + 1, 'an ended worker has given back what it had open');
});

test('a file of /proc is read as its namespace sees it, and the thread is back afterwards', () => {
  const devices = readProcFile({ netnsFd: fd, path: '/proc/thread-self/net/dev' });
  assert.match(devices, /^ *lo:/m);
  execFileSync('nsenter', [`--net=${path}`, 'sysctl', '-qw', 'net.ipv4.ip_local_port_range=40000 40123']);
  assert.equal(readProcFile({ netnsFd: fd, path: '/proc/sys/net/ipv4/ip_local_port_range' }), '40000\t40123\n');
  assert.equal(readNamespaceFiles(path).portRange, '40000\t40123\n');
  assert.throws(
    () => readProcFile({ netnsFd: fd, path: '/proc/thread-self/net/none' }),
    (error) => error instanceof CulvertError && error.code === 'ENOENT',
  );
  assert.notEqual(ownNetnsInode(), inode);
});
