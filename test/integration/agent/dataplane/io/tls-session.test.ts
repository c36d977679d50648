import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { Reactor, type Turnable } from '../../../../../agent/dataplane/io/reactor.js';
import type { TlsContext } from '../../../../../agent/dataplane/io/tls-context.js';
import { TlsSession } from '../../../../../agent/dataplane/io/tls-session.js';
import {
  dialTls,
  listenWith,
  nodeClient,
  nodeServer,
  tlsContext,
  TlsEnd,
  tlsEnds,
} from '../../../../support/agent/tls-end.js';
import { clientIdentity, serverIdentity, TestCa } from '../../../../support/tunnel/tunnel-certificates.js';
import { eventually, withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

const reactor = Reactor.ofThread();
let ca: TestCa;
let contexts: { readonly client: TlsContext; readonly server: TlsContext };

before(async () => {
  ca = await TestCa.create();
  contexts = await contextsWith();
});
after(() => {
  freeAll(contexts);
  assert.equal(reactor.calls.ioCounts(), 0);
});
/** What a test leaves is closed: only the two contexts of this file are open. */
afterEach(() => assert.equal(reactor.calls.ioCounts(), 2));

async function contextsWith(wish: { readonly recordsPerKey?: number } = {}): Promise<typeof contexts> {
  return {
    client: tlsContext(reactor, 'client', await ca.first(clientIdentity), wish),
    server: tlsContext(reactor, 'server', await ca.first(serverIdentity), wish),
  };
}

function freeAll({ client, server }: typeof contexts): void {
  client.free();
  server.free();
}

function closeAll(...ends: readonly TlsEnd[]): void {
  for (const { session } of ends) session?.close();
}

/** Until the kernel takes no more, and much waits here; its buffers grow for a while, also without an event. */
async function fill({ live }: TlsEnd): Promise<void> {
  const block = Buffer.alloc(500_000, 'c');
  let waitingSince = performance.now();
  await eventually('the kernel takes no more', () => {
    if (live.waiting < 3_000_000) waitingSince = performance.now();
    while (live.waiting < 3_000_000) live.write(block);
    return performance.now() - waitingSince > 100;
  });
}

test('bytes go both ways at once, what waits is written first, and the end comes behind it', async () => {
  const { near, far } = tlsEnds(reactor, contexts);
  await Promise.all([near.admitted(), far.admitted()]);
  assert.deepEqual([near.peer?.alpn, near.peer?.distrust, far.peer?.distrust], ['h2', null, null]);
  const bytes = Buffer.alloc(24_000_001, 'the quick brown fox ');
  const sha = createHash('sha256').update(bytes).digest('hex');
  // A reader that stalls makes the other wait.
  far.live.pause();
  near.send(bytes);
  far.send(bytes);
  await eventually('something waits', () => near.live.waiting > 0);
  await eventually('all of the other direction', () => near.bytes === bytes.length);
  assert.equal(far.bytes, 0);
  far.live.resume();
  await Promise.all([near.until('end'), far.until('end')]);
  for (const end of [near, far]) {
    assert.deepEqual([end.live.bytesRead, end.sha.digest('hex')], [bytes.length, sha]);
    assert.deepEqual([end.told.includes('cut'), end.isClosed], [false, false]);
    assert.throws(() => end.live.write(bytes), /after the end/);
  }
  closeAll(near, far);
});

test("Node's TLS is a peer at either end, with new keys all the time", async () => {
  const frequent = await contextsWith({ recordsPerKey: 3 });
  const bytes = Buffer.alloc(3_000_001, 'abcdefghij');
  const sha = createHash('sha256').update(bytes).digest('hex');
  const [server, client] = [new TlsEnd(), new TlsEnd()];
  const sockets = [
    await nodeClient(reactor, { context: frequent.server, end: server }, await ca.first(clientIdentity)),
    await nodeServer(reactor, { context: frequent.client, end: client }, await ca.first(serverIdentity)),
  ];
  for (const [at, end] of [server, client].entries()) {
    await end.admitted();
    const [socket] = sockets.splice(0, 1);
    assert.ok(socket);
    const echo = createHash('sha256');
    socket.on('data', (data: Buffer) => echo.update(data));
    const ended = once(socket, 'end');
    socket.end(bytes);
    end.send(bytes);
    await withDeadline(`the end at ${at}`, Promise.all([ended, end.until('end')]));
    assert.deepEqual([end.sha.digest('hex'), echo.digest('hex')], [sha, sha]);
    socket.destroy();
  }
  closeAll(server, client);
  freeAll(frequent);
});

test('nothing is told of a peer that is not admitted, and what came with its handshake is not lost', async () => {
  const end = new TlsEnd();
  end.judge = () => {};
  const socket = await nodeClient(reactor, { context: contexts.server, end }, await ca.first(clientIdentity));
  socket.write('early');
  await end.admitted();
  const sent = (): boolean => socket.bytesWritten === 5 && socket.writableLength === 0;
  await eventually('the bytes have left', sent);
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  assert.equal(end.bytes, 0);
  assert.throws(() => end.live.write(Buffer.from('x')), /before the peer is admitted/);
  end.live.admit();
  assert.throws(() => end.live.admit(), /judged/);
  await eventually('the bytes', () => end.text === 'early');
  socket.destroy();
  await end.until('cut');
  closeAll(end);
});

test('a peer that is refused reads why, also while it sends', async () => {
  const end = new TlsEnd();
  const reason = 'because';
  end.judge = (_peer, session) => session.refuse(Buffer.from(reason));
  const socket = await nodeClient(reactor, { context: contexts.server, end }, await ca.first(clientIdentity));
  let text = '';
  const flood = Buffer.alloc(200_000, 'x');
  let failure: unknown = null;
  socket.on('error', (error) => (failure = error));
  socket.on('data', (data: Buffer) => (text += data.toString()));
  const ended = once(socket, 'end');
  for (let round = 0; round < 20; round += 1) socket.write(flood);
  await withDeadline('the reason and the end', ended);
  assert.equal(text, reason);
  socket.end();
  await end.until('closed');
  assert.deepEqual([failure, end.bytes, end.told], [null, 0, ['closed']]);
  socket.destroy();
});

test('what fails in a handshake has the code that Node would give it, and the peer gets an alert', async () => {
  const cases = [
    { options: { maxVersion: 'TLSv1.2' }, code: 'ERR_SSL_UNSUPPORTED_PROTOCOL' },
    { options: { ALPNProtocols: ['http/1.1'] }, code: 'ERR_SSL_NO_APPLICATION_PROTOCOL' },
  ];
  for (const { options, code } of cases) {
    const end = new TlsEnd();
    const socket = await nodeClient(
      reactor,
      { context: contexts.server, end },
      await ca.first(clientIdentity),
      options,
    );
    const [alert] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    await end.until(code);
    assert.match(alert.code ?? '', /ALERT/);
    assert.equal(end.live.isOpen, false);
  }
  // The other way round: a server whose certificate the peer does not take says so.
  const end = new TlsEnd();
  const stranger = await (await TestCa.create()).first(clientIdentity);
  const socket = await nodeClient(reactor, { context: contexts.server, end }, stranger);
  await once(socket, 'error');
  await eventually('the end of the session', () => end.isClosed || end.told.includes('cut'));
  socket.destroy();
  closeAll(end);
});

test('what is no TLS, and a peer that leaves in the handshake, are told apart', async () => {
  const cases = [
    ['GET / HTTP/1.1\r\n\r\n', 'ERR_SSL_HTTP_REQUEST'],
    ['\u0016\u0003\u0001\u00ff\u00ff', 'ERR_SSL_PACKET_LENGTH_TOO_LONG'],
    ['\u0016\u0003', 'ECONNRESET'],
    ['', 'ECONNRESET'],
  ] as const;
  for (const [text, code] of cases) {
    const end = new TlsEnd();
    const { listener, port } = listenWith(reactor, ({ handle }) => {
      listener.close();
      end.take(TlsSession.begin(reactor, { handle, context: contexts.server, owner: end }));
    });
    const raw = connectTcp(port, '127.0.0.1').on('error', () => {});
    raw.end(text, 'latin1');
    await eventually(`the end of ${JSON.stringify(text)}`, () => end.isClosed);
    // Each OpenSSL has other words for a length that cannot be.
    const others = ['ERR_SSL_RECORD_LAYER_FAILURE', 'ERR_SSL_DATA_LENGTH_TOO_LONG'];
    const codes = code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG' ? [code, ...others] : [code];
    assert.ok(codes.includes(end.failure?.code ?? ''), end.failure?.code);
    raw.destroy();
  }
});

test('a context that was freed begins nothing, and what has begun with it goes on', async () => {
  const brief = await contextsWith();
  const [near, far] = [new TlsEnd(), new TlsEnd()];
  const { listener, port } = listenWith(reactor, ({ handle }) => {
    listener.close();
    far.take(TlsSession.begin(reactor, { handle, context: brief.server, owner: far }));
    freeAll(brief);
  });
  dialTls(reactor, port, contexts.client, near);
  await Promise.all([near.admitted(), far.admitted()]);
  closeAll(near, far);
  const late = new TlsEnd();
  const next = listenWith(reactor, ({ handle }) => {
    next.listener.close();
    reactor.calls.ioClose(handle, 0);
  });
  dialTls(reactor, next.port, brief.client, late);
  await late.until('EBADF');
  await eventually('all is closed', () => reactor.calls.ioCounts() === 2);
});

test('what came before a reset is read, also where a write found it first', async () => {
  for (const writes of [false, true]) {
    const { near, far } = tlsEnds(reactor, contexts);
    await Promise.all([near.admitted(), far.admitted()]);
    near.live.pause();
    far.live.write(Buffer.from('last words'));
    await far.until('written');
    // A RST drops what the peer's kernel has not taken yet.
    await eventually('the bytes are there', () => reactor.calls.ioAsk(near.live.handle, 1) > 0);
    far.live.reset();
    const reset = (): boolean => reactor.calls.ioAsk(near.live.handle, 3) === 7;
    await eventually('the reset is there', reset);
    if (writes) assert.equal(near.live.write(Buffer.from('x')), 0);
    for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    assert.deepEqual([near.told, near.text], [[], '']);
    near.live.resume();
    await eventually('the failure', () => near.isClosed);
    assert.equal(near.text, 'last words');
    assert.match(near.failure?.code ?? '', writes ? /^(ECONNRESET|EPIPE)$/ : /^ECONNRESET$/);
    assert.deepEqual(near.told.length, 1);
    assert.deepEqual(far.told, ['written']);
  }
});

test('a reset behind close_notify is a failure of the session that still writes', async () => {
  const { near, far } = tlsEnds(reactor, contexts);
  await Promise.all([near.admitted(), far.admitted()]);
  far.live.end();
  await near.until('end');
  far.live.reset();
  // So Linux calls a reset after the end.
  await near.until('EPIPE');
});

test('a record that no key sealed ends the session behind the good ones', async () => {
  const end = new TlsEnd();
  const { listener, port } = listenWith(reactor, ({ handle }) => {
    listener.close();
    end.take(TlsSession.begin(reactor, { handle, context: contexts.server, owner: end }));
  });
  const {
    certificates: [own],
    rootsPem,
  } = await ca.first(clientIdentity);
  const raw = connectTcp(port, '127.0.0.1');
  const identity = { ca: rootsPem, cert: own?.chainPem, key: own?.keyPem, checkServerIdentity: () => undefined };
  const socket = connectTls({ socket: raw, ...identity, ALPNProtocols: ['h2'] }).on('error', () => {});
  socket.write('good');
  await eventually('the good ones', () => end.text === 'good');
  raw.write(Buffer.concat([Buffer.from([23, 3, 3, 0, 40]), Buffer.alloc(40, 7)]));
  await end.until('ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC');
  assert.equal(end.text, 'good');
  socket.destroy();
});

test('an answer to a new key waits for the kernel as any other byte, and goes when it takes it', async () => {
  const frequent = await contextsWith({ recordsPerKey: 1 });
  const { near, far } = tlsEnds(reactor, { client: contexts.client, server: frequent.server });
  await Promise.all([near.admitted(), far.admitted()]);
  // `far` asks for a new key after each record that it read. Nobody reads the answers of `near` for a while.
  far.live.write(Buffer.from('a'));
  near.live.write(Buffer.from('b'));
  await eventually('the first', () => far.text === 'b' && near.text === 'a');
  far.live.pause();
  await fill(near);
  far.live.write(Buffer.from('d'));
  await eventually('the question', () => near.text === 'ad');
  assert.ok(near.live.waiting > 0);
  far.live.resume();
  await near.until('written');
  await eventually('nothing waits', () => near.live.waiting === 0);
  near.live.write(Buffer.from('end'));
  near.live.end();
  await far.until('end');
  closeAll(near, far);
  freeAll(frequent);
});

test('what waits is bounded, and a session that closes soon sends it first', async () => {
  const { near, far } = tlsEnds(reactor, contexts);
  await Promise.all([near.admitted(), far.admitted()]);
  far.live.pause();
  const block = Buffer.alloc(500_000, 'z');
  let written = 0;
  assert.throws(() => {
    for (;;) {
      near.live.write(block);
      written += block.length;
    }
  }, RangeError);
  near.live.closeSoon();
  for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
  assert.equal(near.isClosed, false);
  far.live.resume();
  await Promise.all([near.until('closed'), far.until('end')]);
  assert.deepEqual([far.bytes, near.live.isOpen], [written, false]);
  assert.equal(near.live.write(block), 0);
  closeAll(far);
});

test('a session that is closed tells nothing more, and its peer is told a cut or a reset', async () => {
  for (const [how, told] of [
    ['close', 'cut'],
    ['reset', 'ECONNRESET'],
  ] as const) {
    const { near, far } = tlsEnds(reactor, contexts);
    await Promise.all([near.admitted(), far.admitted()]);
    far.onRead = () => far.live.write(Buffer.from('answer'));
    near.live.write(Buffer.from('x'));
    near.live[how]();
    await eventually(told, () => far.told.some((what) => what === told || what === 'EPIPE'));
    assert.deepEqual([near.told, near.isClosed, near.live.waiting], [[], false, 0]);
    closeAll(far);
  }
});

test('output is asked for once at the end of a round, and in a later one from there', async () => {
  const { near, far } = tlsEnds(reactor, contexts);
  await Promise.all([near.admitted(), far.admitted()]);
  const order: string[] = [];
  const work = (name: string): Turnable => ({
    isQueued: false,
    onTurn: () => {
      order.push(name);
      near.live.wantOutput();
    },
  });
  near.makeOutput = () => {
    order.push('output');
    near.live.write(Buffer.from(String(order.length)));
    if (order.length === 3) near.live.wantOutput();
  };
  reactor.queue(work('one'));
  reactor.queue(work('two'));
  await eventually('both outputs', () => far.text === '34');
  assert.deepEqual(order, ['one', 'two', 'output', 'output']);
  await near.until('written');
  closeAll(near, far);
});

test('one handshake makes a step in a round, and other work comes in between', async () => {
  const order: string[] = [];
  const step = (name: string, left: number): Turnable => {
    const work: Turnable = {
      isQueued: false,
      onTurn: () => {
        order.push(name);
        if ((left -= 1) > 0) reactor.queueHandshake(work);
      },
    };
    return work;
  };
  const busy: Turnable = {
    isQueued: false,
    onTurn: () => {
      order.push('.');
      if (order.length < 12) reactor.queue(busy);
    },
  };
  for (const name of ['a', 'b', 'c']) reactor.queueHandshake(step(name, 2));
  reactor.queue(busy);
  await eventually('all of it', () => order.length >= 12);
  assert.equal(order.join(''), '.a.b.c.a.b.c.');
});

test('many handshakes at once are all done, and one of the floor takes no bytes of another', async () => {
  const ends = Array.from({ length: 60 }, () => tlsEnds(reactor, contexts));
  await Promise.all(ends.flatMap(({ near, far }) => [near.admitted(), far.admitted()]));
  for (const [at, { near, far }] of ends.entries()) {
    far.onRead = () => far.live.write(Buffer.from(`echo ${at}`));
    near.live.write(Buffer.from(`${at}`));
  }
  await eventually('all answers', () => ends.every(({ near }, at) => near.text === `echo ${at}`));
  closeAll(...ends.flatMap(({ near, far }) => [near, far]));
});

test('a list of certificates with a damaged line is refused as a whole', async () => {
  const {
    certificates: [own],
    rootsPem,
  } = await ca.first(serverIdentity);
  const chainPem = own?.chainPem ?? '';
  const make = (parts: object): void =>
    tlsContext(reactor, 'server', { certificates: own ? [own] : [], rootsPem }, parts).free();
  const second = rootsPem.trim();
  const damaged = [
    second.replace('-----BEGIN', '----BEGIN'),
    second.replace('-----BEGIN CERTIFICATE', '-----BEGIN CERTIFICAT'),
    second.replace('BEGIN', 'BEGUN'),
    second.replace('-----END CERTIFICATE-----', ''),
    second.replace('-----END', '----END'),
    second.replace(/^M/m, '!'),
    second.slice(0, 60),
  ];
  make({ chainPem: `${chainPem}\n${second}`, rootsPem: `# roots\n${second}\n\nthe other\n${second}\n` });
  for (const each of damaged) {
    assert.throws(() => make({ chainPem: `${chainPem}\n${each}` }), /the certificate chain cannot be used/, each);
    assert.throws(() => make({ rootsPem: `${rootsPem}\n${each}` }), /the roots cannot be used/, each);
    assert.throws(() => make({ rootsPem: `${each}\n${rootsPem}` }), /the roots cannot be used/, each);
  }
  assert.throws(() => make({ rootsPem: '' }), /the roots cannot be used/);
});
