import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, readdirSync } from 'node:fs';
import net from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { acceptedFd, closeFd, listenTcp, openConntrack, originalSourcePort } from '../../../../agent/native/addon.js';
import { ClientPorts } from '../../../../agent/native/client-ports.js';
import { dialSocket } from '../../../../agent/native/dial-sockets.js';
import { openNetns } from '../../../../agent/native/netns.js';
import { patientSignal } from '../../../lab/patience.js';
import { untilReachable } from '../../../support/agent/reachable-address.js';

const name = `cpt${randomBytes(3).toString('hex')}`;
const path = `/run/netns/${name}`;
const addresses = { 4: '198.19.9.1', 6: 'fd00:19:9::1' } as const;
/** With it a question to connection tracking throws. */
const noSocket = -1;
/** More than the messages for which the kernel has room. */
const many = 600;
const backlog = 2 * many;

describe('the ports that clients of redirected connections dialled from', () => {
  let netnsFd: number;
  let conntrackFd: number;
  let server: net.Server;
  let ports: ClientPorts;
  const sockets: net.Socket[] = [];

  before(async () => {
    const redirect = '-t nat -A OUTPUT -p tcp --dport 7000:7999 -j REDIRECT --to-ports 15001';
    execFileSync('sh', [
      '-ec',
      `ip netns add ${name}; ip -n ${name} link set lo up
      ip -n ${name} addr add ${addresses[4]}/32 dev lo; ip -n ${name} addr add ${addresses[6]}/128 dev lo nodad
      ${untilReachable(name, addresses[6])}
      nsenter --net=${path} iptables ${redirect}; nsenter --net=${path} ip6tables ${redirect}`,
    ]);
    netnsFd = openNetns(path).fd;
    conntrackFd = openConntrack({ netnsFd });
    server = net.createServer({ pauseOnConnect: true });
    const fd = listenTcp({ netnsFd, host: '::', port: 15_001, backlog, reusePort: false });
    server.listen({ fd }, backlog);
    await once(server, 'listening');
  });
  after(async () => {
    server.close();
    await once(server, 'close');
    closeFd(conntrackFd);
    closeSync(netnsFd);
    execFileSync('ip', ['netns', 'del', name]);
  });
  beforeEach(() => {
    ports = new ClientPorts();
  });
  afterEach(() => {
    ports.close();
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  /** `localPort`: below those that the kernel gives by itself, so that no other connection has it. */
  const dial = (family: 4 | 6, port: number, localPort?: number): net.Socket => {
    const init: net.SocketConstructorOpts & { manualStart: true } = {
      fd: dialSocket({ netnsFd, family, mark: 0 }),
      manualStart: true,
    };
    const socket = new net.Socket(init);
    sockets.push(socket);
    socket.on('error', () => undefined);
    return socket.connect({ host: addresses[family], port, ...(localPort === undefined ? {} : { localPort }) });
  };
  const open = async (family: 4 | 6, port: number, localPort?: number): Promise<net.Socket> => {
    const accepted = once(server, 'connection', { signal: patientSignal(30_000) });
    dial(family, port, localPort);
    const [socket] = (await accepted) as [net.Socket];
    sockets.push(socket);
    return socket;
  };
  /** Without a question to connection tracking. */
  const watched = (socket: net.Socket): number | null =>
    ports.of(acceptedFd(socket), { netnsFd, conntrackFd: noSocket });
  const asked = (socket: net.Socket): number | null => ports.of(acceptedFd(socket), { netnsFd, conntrackFd });
  const startWatching = async (): Promise<void> => {
    for (const port of [7990, 7991]) asked(await open(4, port));
  };

  for (const family of [4, 6] as const) {
    test(`are known without a question while many come, also where the redirect changed them (IPv${family})`, async () => {
      await startWatching();
      for (const port of [7000, 7001, 7002]) {
        const socket = await open(family, port, 21_000 + family);
        assert.equal(socket.remotePort === 21_000 + family, port === 7000, 'the redirect changes all but the first');
        assert.equal(watched(socket), 21_000 + family);
        assert.throws(() => watched(socket), { code: 'EBADF' }, 'each is told once');
      }
    });
  }

  test('are asked for where two connections are far apart, and of those that came before', async () => {
    const first = await open(4, 7100);
    assert.throws(() => watched(first), { code: 'EBADF' });
    const early = await open(4, 7101);
    assert.throws(() => watched(early), { code: 'EBADF' }, 'it began with this question');
    assert.equal(asked(early), originalSourcePort({ conntrackFd, fd: acceptedFd(early) }));
  });

  test('are asked for after the kernel had no room for what it said, and known of those that come later', async () => {
    await startWatching();
    let accepted = 0;
    const all = new Promise<void>((resolve) => {
      server.on('connection', (socket: net.Socket) => {
        sockets.push(socket);
        if (++accepted === many) resolve();
      });
    });
    for (let each = 0; each < many; each++) dial(4, 7200 + (each % 50));
    await all;
    server.removeAllListeners('connection');
    const last = sockets.at(-1) ?? assert.fail();
    assert.throws(() => watched(last), { code: 'EBADF' });
    assert.equal(asked(last), originalSourcePort({ conntrackFd, fd: acceptedFd(last) }));
    const later = await open(4, 7300, 21_300);
    assert.equal(watched(later), 21_300);
  });

  test('are known of as many as wait to be accepted', async () => {
    await startWatching();
    /** Of all; one question reads what the kernel said of all that came before it, for which it has room in parts. */
    const knownOf = async (count: number, part: number): Promise<number> => {
      const accepted: net.Socket[] = [];
      const take = (socket: net.Socket): void => void accepted.push(socket);
      server.on('connection', take);
      while (accepted.length < count) {
        const wanted = accepted.length + part;
        for (let each = 0; each < part; each++) dial(4, 7500 + (each % 50));
        while (accepted.length < wanted) await once(server, 'connection', { signal: patientSignal(30_000) });
        // Of a connection of before, so that nothing is taken.
        told(sockets[0] ?? assert.fail());
      }
      server.off('connection', take);
      sockets.push(...accepted);
      return accepted.filter((socket) => told(socket) !== null).length;
    };
    const told = (socket: net.Socket): number | null => {
      try {
        return watched(socket);
      } catch {
        return null;
      }
    };
    await knownOf(500, 50);
    // It has more places now, because it missed many of those.
    assert.equal(await knownOf(500, 50), 500);
  });

  test('are asked for at a rate, so that who opens connections without end does not stop the thread', async () => {
    let nowMs = 0;
    ports = new ClientPorts({ nowMs: () => nowMs });
    const early = await open(4, 7600);
    /** In the same millisecond. */
    const questions = (): number => {
      let count = 0;
      for (let each = 0; each < 100; each++) {
        try {
          assert.equal(watched(early), null);
        } catch {
          count += 1;
        }
      }
      return count;
    };
    assert.equal(questions(), 16);
    nowMs += 500;
    assert.equal(questions(), 10);
    nowMs += 60_000;
    assert.equal(questions(), 16);
    assert.equal(asked(early), null, 'the port is not known');
  });

  test('leave no descriptor behind', async () => {
    const count = (): number => readdirSync('/proc/self/fd').length;
    const one = await open(4, 7400);
    const before_ = count();
    asked(one);
    asked(one);
    assert.equal(count(), before_ + 1);
    ports.close();
    assert.equal(count(), before_);
  });
});
