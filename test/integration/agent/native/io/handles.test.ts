import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { test } from 'node:test';
import { closeFd, listenTcp, openConntrack } from '../../../../../agent/native/addon.js';
import { desk as layout } from '../../../../../agent/native/io-calls.js';
import { EngineDesk, inAt, outAt, outBytes } from '../../../../support/agent/engine-desk.js';

const [EBADF, EINVAL, EFAULT, EEXIST, ENOTSOCK, EPROTONOSUPPORT] = [-9, -22, -14, -17, -88, -93];
const desk = EngineDesk.ofThread();
const { calls } = desk;

/** Every function that takes a socket first, with arguments that are right after it. */
const onSockets: readonly [name: keyof typeof calls, ...rest: unknown[]][] = [
  ['ioWatch', 1],
  ['ioRelease'],
  ['ioDescriptor'],
  ['ioAccept', 1, 0],
  ['ioReceive', inAt, 10],
  ['ioSend', outAt, 10],
  ['ioSendParts', 0],
  ['ioShutdown'],
  ['ioSetOption', 0, 1],
  ['ioAsk', 0],
  ['ioTlsBegin', 1],
  ['ioTlsHandshake'],
  ['ioTlsAdmit'],
  ['ioTlsReceive', inAt, 10, 70_000],
  ['ioTlsSend', outAt, 10],
  ['ioTlsSendBytes', Buffer.alloc(10)],
  ['ioTlsFlush'],
  ['ioTlsEnd'],
  ['ioClose', 0],
];
const invoke = (name: string, ...args: unknown[]): unknown =>
  (calls as unknown as Record<string, (...given: unknown[]) => unknown>)[name]?.(...args);

test('a handle that was closed, and every forged one, is refused by every function', async () => {
  const [client, server] = await desk.pair();
  desk.close(client);
  const forged = [client, 0, -1, 1, server + 1, server ^ (1 << 19), server ^ (1 << 30), 0x7fffffff, -0x80000000];
  for (const handle of forged)
    for (const [name, ...rest] of onSockets) assert.equal(invoke(name, handle, ...rest), EBADF, `${name}(${handle})`);
  for (const handle of forged) {
    assert.equal(calls.ioSplice(handle, server, 1), EBADF);
    assert.equal(calls.ioSplice(server, handle, 1), EBADF);
    assert.equal(calls.ioConnect(handle, '127.0.0.1', 1), EBADF);
    assert.equal(calls.ioFreeTlsContext(handle), EBADF);
    assert.equal(calls.ioTlsPeer(handle), null);
    assert.equal(calls.ioTlsFailure(handle), '');
  }
  assert.equal(calls.ioTlsBegin(server, server), EBADF, 'a socket is no context');
  assert.ok(calls.ioDescriptor(server) > 0, 'the one that is open was never touched');
  desk.close(server);
  assert.equal(calls.ioCounts(), 0);
});

test('arguments that are missing or are no numbers are an error of the call', async () => {
  const [client, server] = await desk.pair();
  for (const [name, ...rest] of onSockets) {
    assert.equal(invoke(name), EINVAL, name);
    for (const odd of [undefined, null, 'x', {}, [], Symbol.iterator, () => 1, 1n])
      assert.equal(invoke(name, odd, ...rest), EINVAL, name);
    if (rest.length > 0) assert.equal(invoke(name, client), EINVAL, name);
  }
  for (const args of [[], [client], [client, 5, 5], [client, 'localhost', 80], [client, '127.0.0.1', 0]])
    assert.equal(invoke('ioConnect', ...args), EINVAL);
  assert.equal(invoke('ioConnect', client, '127.0.0.1', 65_536), EINVAL);
  assert.equal(invoke('ioConnect', client, '1'.repeat(10_000), 1), EINVAL);
  assert.equal(calls.ioWatch(client, 1 << 28), EINVAL, 'EPOLLEXCLUSIVE');
  assert.equal(calls.ioSetOption(client, 99, 1), EINVAL);
  assert.equal(calls.ioAsk(client, -1), EINVAL);
  assert.equal(calls.ioAccept(client, 65, 0), EINVAL);
  assert.equal(calls.ioSocket(5 as 4), EINVAL);
  desk.close(client, server);
});

test('bytes outside of the memory, and those of the desk, are refused', async () => {
  const [client, server] = await desk.pair();
  const end = desk.memory.length;
  const outside = [
    [0, 1],
    [layout.bytes - 1, 1],
    [-1, 1],
    [inAt, -1],
    [end, 1],
    [end - 1, 2],
    [inAt, 0x7fffffff],
    [0x7fffffff, 0x7fffffff],
    [-0x80000000, 0x7fffffff],
  ];
  for (const [offset = 0, length = 0] of outside) {
    assert.equal(calls.ioReceive(client, offset, length), EFAULT);
    assert.equal(calls.ioSend(client, offset, length), EFAULT);
    desk.words.set([outAt, 1, offset, length], layout.parts / 4);
    assert.equal(calls.ioSendParts(client, 2), EFAULT);
  }
  assert.equal(calls.ioSend(client, end, 0), 0);
  for (const count of [-1, layout.mostParts + 1, 0x7fffffff]) assert.equal(calls.ioSendParts(client, count), EINVAL);
  desk.words.set(
    Array.from({ length: 512 }, (_, at) => (at % 2 === 0 ? outAt : outBytes)),
    layout.parts / 4,
  );
  const sent = calls.ioSendParts(client, layout.mostParts);
  assert.ok(sent > 0 && sent <= outBytes * layout.mostParts);
  desk.close(client, server);
});

test('a number does not come back before a million others', async () => {
  const first = calls.ioSocket(4);
  desk.close(first);
  for (let at = 0; at < 20_000; at += 1) {
    const next = calls.ioSocket(4);
    assert.notEqual(next, first);
    desk.close(next);
  }
  assert.equal(calls.ioDescriptor(first), EBADF);
});

test('only TCP sockets are adopted, once each, and they are given back open', () => {
  const file = openSync('/dev/null', 'r');
  assert.equal(calls.ioAdopt(file), ENOTSOCK);
  closeSync(file);
  assert.equal(calls.ioAdopt(-1), EBADF);
  assert.equal(calls.ioAdopt(1_000_000), EBADF);
  const netlink = openConntrack({ netnsFd: null });
  assert.equal(calls.ioAdopt(netlink), EPROTONOSUPPORT);
  closeFd(netlink);
  const fd = listenTcp({ netnsFd: null, host: '127.0.0.1', port: 0, backlog: 1, reusePort: false });
  const handle = calls.ioAdopt(fd);
  assert.ok(handle > 0);
  assert.equal(calls.ioAdopt(fd), EEXIST);
  assert.equal(calls.ioDescriptor(handle), fd);
  assert.equal(calls.ioRelease(handle), fd);
  assert.equal(calls.ioDescriptor(handle), EBADF);
  const again = calls.ioAdopt(fd);
  assert.ok(again > 0 && again !== handle);
  assert.equal(calls.ioRelease(again), fd);
  closeFd(fd);
  assert.ok([ENOTSOCK, EBADF, EPROTONOSUPPORT].includes(calls.ioAdopt(fd)));
});

test('the reactor is started once, with memory of a sensible size', () => {
  assert.throws(() => calls.ioStart(1 << 20, () => {}), /has been started/);
  for (const args of [[], [1 << 20], ['x', () => {}], [1, () => {}], [2 ** 31, () => {}], [1 << 20, {}]])
    assert.throws(() => invoke('ioStart', ...args), /ioStart takes|has been started/);
});
