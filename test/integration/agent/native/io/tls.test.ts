import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { after, before, test } from 'node:test';
import { epollEvent, mostTlsBytes, socketQuestion, statusBit } from '../../../../../agent/native/io-calls.js';
import { spiffeIdOf } from '../../../../../shared/pki/spiffe-id-of-certificate.js';
import { EngineDesk, inAt, inBytes, outAt } from '../../../../support/agent/engine-desk.js';
import { engineContext, nodeClient, nodeServer, tlsPair } from '../../../../support/agent/engine-tls.js';
import { eventually } from '../../../../support/tunnel/tunnel-pair.js';
import { clientIdentity, serverIdentity, TestCa } from '../../../../support/tunnel/tunnel-certificates.js';

const [EACCES, EAGAIN, EALREADY, ECONNABORTED, EPIPE, EPROTO, ENOTCONN, EFAULT, EINVAL, EBADF] = [
  -13, -11, -114, -103, -32, -71, -107, -14, -22, -9,
];
const [fine, expired, selfSigned] = [0, 10, 19];
const hourMs = 3_600_000;
const desk = EngineDesk.ofThread();
const { calls } = desk;
let ca: TestCa;
let client: number;
let server: number;

before(async () => {
  ca = await TestCa.create();
  client = engineContext(desk, false, await ca.first(clientIdentity));
  server = engineContext(desk, true, await ca.first(serverIdentity));
});
after(() => {
  assert.equal(calls.ioFreeTlsContext(client), 0);
  assert.equal(calls.ioFreeTlsContext(server), 0);
  assert.equal(calls.ioFreeTlsContext(server), EBADF);
  assert.equal(calls.ioCounts(), 0);
});

function identityOf(handle: number): string | null {
  const [, , , leaf] = calls.ioTlsPeer(handle) ?? [];
  return leaf === undefined ? null : spiffeIdOf(leaf);
}

/** Everything up to the end, and the bits with which it came. */
async function readAll(handle: number): Promise<{ bytes: number; sha: string; bits: number; errno: number }> {
  const sha = createHash('sha256');
  for (let bytes = 0; ;) {
    const { text, bits, errno } = await desk.receiveTls(handle);
    bytes += text.length;
    sha.update(text, 'latin1');
    if ((bits & ~statusBit.dry) !== 0) return { bytes, sha: sha.digest('hex'), bits, errno };
  }
}

async function sendAll(handle: number, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += mostTlsBytes) {
    let waiting = desk.sendTls(handle, bytes.subarray(at, at + mostTlsBytes));
    while (waiting > 0) {
      await desk.event(handle, epollEvent.out);
      waiting = calls.ioTlsFlush(handle);
    }
    assert.equal(waiting, 0);
  }
}

test('both ends prove themselves, with chain, ALPN and result', async () => {
  const [a, b] = await tlsPair(desk, [client, server]);
  assert.equal(identityOf(a), serverIdentity);
  assert.equal(identityOf(b), clientIdentity);
  const [result, alpn, isResumed, ...chain] = calls.ioTlsPeer(a) ?? [];
  assert.deepEqual([result, alpn, isResumed], [fine, 'h2', false]);
  assert.ok(chain.length >= 2);
  assert.ok(chain.every((der) => new X509Certificate(der).raw.equals(der)));
  desk.close(a, b);
});

test('nothing of a peer is read before it is admitted; it can be told why', async () => {
  const [a, b] = await desk.pair();
  assert.equal(calls.ioTlsReceive(a, inAt, 10, inBytes), ENOTCONN);
  assert.equal(calls.ioTlsBegin(a, client), 0);
  assert.equal(calls.ioTlsBegin(a, client), EALREADY);
  assert.equal(calls.ioTlsBegin(b, server), 0);
  assert.equal(calls.ioTlsPeer(a), null);
  assert.equal(calls.ioTlsAdmit(a), ENOTCONN);
  assert.equal(desk.sendTls(a, 'x'), ENOTCONN);
  assert.deepEqual(await Promise.all([desk.handshake(a), desk.handshake(b)]), [1, 1]);
  assert.equal(calls.ioTlsReceive(b, inAt, 10, inBytes), EACCES);
  assert.equal(desk.sendTls(b, 'no'), 0);
  assert.equal(calls.ioTlsAdmit(a), 0);
  assert.equal((await desk.receiveTls(a)).text, 'no');
  desk.close(a, b);
});

test('offsets and lengths are checked', async () => {
  const [a, b] = await tlsPair(desk, [client, server]);
  const end = desk.memory.length;
  assert.equal(calls.ioTlsReceive(a, end - 70_000, 10, 70_001), EFAULT);
  assert.equal(calls.ioTlsReceive(a, 0, 10, 70_000), EFAULT);
  assert.equal(calls.ioTlsReceive(a, inAt, 10, 65_545), EINVAL);
  assert.equal(calls.ioTlsReceive(a, inAt, mostTlsBytes + 1, inBytes), EINVAL);
  assert.equal(calls.ioTlsReceive(a, inAt, 0, inBytes), EINVAL);
  assert.equal(calls.ioTlsSend(a, end - 1, 2), EFAULT);
  assert.equal(calls.ioTlsSend(a, outAt, mostTlsBytes + 1), EFAULT);
  assert.equal(calls.ioTlsSend(a, inAt, mostTlsBytes + 1), EINVAL);
  assert.equal(calls.ioTlsSend(a, outAt, 0), 0);
  desk.close(a, b);
});

test('bytes of any memory are sent without a copy of the caller, and checked as those of the desk', async () => {
  const [a, b] = await tlsPair(desk, [client, server]);
  const bytes = Buffer.alloc(mostTlsBytes + 1, 'elsewhere ');
  assert.equal(calls.ioTlsSendBytes(a, bytes), EINVAL);
  assert.equal(calls.ioTlsSendBytes(a, bytes.subarray(0, 0)), 0);
  for (const odd of [undefined, null, 7, 'text', {}, [1, 2]])
    assert.equal((calls.ioTlsSendBytes as (handle: number, bytes: unknown) => number)(a, odd), EINVAL);
  assert.equal(calls.ioTlsSendBytes(a, Buffer.from('a small one')), 0);
  assert.equal((await desk.receiveTls(b)).text, 'a small one');
  assert.equal(calls.ioTlsSendBytes(a, new Uint8Array(new SharedArrayBuffer(20), 5, 10).fill(0x78)), 0);
  assert.equal((await desk.receiveTls(b)).text, 'x'.repeat(10));
  const detached = new Uint8Array(10);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  assert.equal(calls.ioTlsSendBytes(a, detached), 0);
  calls.ioTlsEnd(a);
  assert.equal(calls.ioTlsSendBytes(a, bytes.subarray(0, 10)), EPIPE);
  desk.close(a, b);
  assert.equal(calls.ioTlsSendBytes(a, bytes.subarray(0, 10)), EBADF);
});

test('bulk goes both ways at once, and what the kernel does not take waits', async () => {
  const [a, b] = await tlsPair(desk, [client, server]);
  const bytes = Buffer.alloc(6 * mostTlsBytes + 12_345, 'the quick brown fox ');
  const sha = createHash('sha256').update(bytes).digest('hex');
  let [waiting, most] = [0, 0];
  // The kernel's buffers grow for a while.
  for (let round = 0; waiting >= 0 && round < 100; round += 1) {
    waiting = desk.sendTls(a, bytes.subarray(0, mostTlsBytes));
    most = Math.max(most, waiting);
  }
  assert.ok(most > 0);
  assert.equal(waiting, EAGAIN, 'it takes nothing while something waits');
  desk.close(a, b);

  const [c, d] = await tlsPair(desk, [client, server]);
  const ends = [readAll(c), readAll(d)];
  await Promise.all([c, d].map((each) => sendAll(each, bytes).then(() => calls.ioTlsEnd(each))));
  for (const end of await Promise.all(ends)) {
    assert.deepEqual([end.bytes, end.sha], [bytes.length, sha]);
    assert.equal(end.bits & statusBit.closed, statusBit.closed);
  }
  desk.close(c, d);
});

test('each direction ends with close_notify, and a FIN without one is told apart', async () => {
  const [a, b] = await tlsPair(desk, [client, server]);
  desk.sendTls(a, 'last');
  assert.equal(calls.ioTlsEnd(a), 0);
  assert.equal(calls.ioTlsEnd(a), 0);
  assert.equal(desk.sendTls(a, 'x'), EPIPE);
  assert.equal((await readAll(b)).bits & (statusBit.closed | statusBit.end), statusBit.closed);
  desk.sendTls(b, 'back');
  assert.equal((await desk.receiveTls(a)).text, 'back');
  calls.ioShutdown(b);
  assert.equal((await readAll(a)).bits & (statusBit.closed | statusBit.end | statusBit.failed), statusBit.end);
  desk.close(a, b);
});

test("Node's TLS is a peer at either end, with KeyUpdates of the engine in between", async () => {
  const bytes = Buffer.alloc(3_000_000, 'abcdefghij');
  const sha = createHash('sha256').update(bytes).digest('hex');
  const contexts = [
    engineContext(desk, true, await ca.first(serverIdentity), { recordsPerKey: 3 }),
    engineContext(desk, false, await ca.first(clientIdentity), { recordsPerKey: 3 }),
  ];
  const sides = [
    await nodeClient(desk, await ca.first(clientIdentity)),
    await nodeServer(desk, await ca.first(serverIdentity)),
  ];
  for (const [at, { socket, handle }] of sides.entries()) {
    calls.ioTlsBegin(handle, contexts[at] ?? 0);
    assert.equal(await desk.handshake(handle), 1);
    assert.equal(calls.ioTlsAdmit(handle), 0);
    assert.equal(calls.ioTlsPeer(handle)?.[1], 'h2');
    const echo = createHash('sha256');
    let received = 0;
    socket.on('data', (data: Buffer) => {
      received += data.length;
      echo.update(data);
    });
    const ended = once(socket, 'end');
    socket.end(bytes);
    const [end] = await Promise.all([readAll(handle), sendAll(handle, bytes).then(() => calls.ioTlsEnd(handle))]);
    assert.deepEqual([end.bytes, end.sha], [bytes.length, sha]);
    await ended;
    assert.deepEqual([received, echo.digest('hex')], [bytes.length, sha]);
    socket.destroy();
    desk.close(handle);
  }
  for (const context of contexts) calls.ioFreeTlsContext(context);
});

test('a KeyUpdate that the peer asks for is answered, also by one that only reads', async () => {
  const frequent = engineContext(desk, false, await ca.first(clientIdentity), { recordsPerKey: 1 });
  const [a, b] = await tlsPair(desk, [frequent, server]);
  for (let round = 0; round < 50; round += 1) {
    assert.equal(desk.sendTls(b, `question ${round}`), 0);
    assert.equal((await desk.receiveTls(a)).text, `question ${round}`);
    assert.equal(desk.sendTls(a, `answer ${round}`), 0);
    assert.equal((await desk.receiveTls(b)).text, `answer ${round}`);
  }
  desk.close(a, b);
  calls.ioFreeTlsContext(frequent);
});

test('a read takes 64 records without data and fails at more, and any number with data', async () => {
  // One KeyUpdate in front of each record.
  const frequent = engineContext(desk, false, await ca.first(clientIdentity), { recordsPerKey: 1 });
  for (const [context, writes, isFlood] of [
    [frequent, 64, false],
    [frequent, 70, true],
    // 23 bytes each: all of them have room in the receiver's first window, else they would never have arrived.
    [client, 1000, false],
  ] as const) {
    const [a, b] = await tlsPair(desk, [context, server]);
    for (let count = 0; count < writes; count += 1) assert.equal(desk.sendTls(a, 'x'), 0);
    // On a busy machine loopback delivers later than it takes: one read is to have all of it.
    await eventually('all of it has arrived', () => calls.ioAsk(a, socketQuestion.unacknowledged) === 0);
    const { text, bits, errno } = await desk.receiveTls(b);
    assert.equal(bits & statusBit.failed, isFlood ? statusBit.failed : 0);
    if (isFlood) {
      assert.equal(text, 'x'.repeat(64));
      assert.equal(-errno, EPROTO);
      assert.equal(calls.ioTlsFailure(b), 'too many records without data');
      assert.equal(desk.sendTls(b, 'x'), EPROTO);
    } else assert.equal(text, 'x'.repeat(writes));
    desk.close(a, b);
  }
  calls.ioFreeTlsContext(frequent);
});

test('a read says how many bytes wait for the kernel then, because it can have an answer', async () => {
  const frequent = engineContext(desk, true, await ca.first(serverIdentity), { recordsPerKey: 1 });
  const [a, b] = await tlsPair(desk, [client, frequent]);
  desk.sendTls(a, 'one');
  await desk.receiveTls(b);
  const bytes = Buffer.alloc(mostTlsBytes);
  // The kernel's buffers grow for a while, also without an event; on a busy machine for longer.
  for (let round = 1; ; round += 1) {
    for (let stillFor = 0; stillFor < 20; stillFor += 1) {
      if (calls.ioTlsFlush(a) === 0) {
        desk.sendTls(a, bytes);
        stillFor = 0;
      }
      await new Promise((resolve) => {
        setTimeout(resolve, 5);
      });
    }
    // It asks for another key.
    assert.equal(desk.sendTls(b, 'question'), 0);
    assert.equal((await desk.receiveTls(a)).text, 'question');
    const said = desk.status(2);
    const waiting = calls.ioTlsFlush(a);
    if (waiting > 0) {
      assert.equal(said > 0, true, 'there is something to be flushed');
      break;
    }
    assert.ok(round < 10, 'the kernel takes all');
  }
  desk.close(a, b);
  calls.ioFreeTlsContext(frequent);
});

test('what OpenSSL finds in a certificate is told, and the handshake itself is done', async () => {
  const other = await TestCa.create();
  const cases = [
    { certificates: await ca.issue(clientIdentity, { startsInMs: -2 * hourMs, ttlMs: hourMs }), result: [expired] },
    { certificates: await ca.issue(clientIdentity, { startsInMs: hourMs }), result: [9] },
    { certificates: await other.issue(clientIdentity), result: [selfSigned, 20] },
  ];
  for (const { certificates, result } of cases) {
    const context = engineContext(desk, false, certificates, { rootsPem: ca.root.rootPem });
    const [a, b] = await desk.pair();
    calls.ioTlsBegin(a, context);
    calls.ioTlsBegin(b, server);
    assert.deepEqual(await Promise.all([desk.handshake(a), desk.handshake(b)]), [1, 1]);
    assert.ok(result.includes(calls.ioTlsPeer(b)?.[0] ?? -1), `${calls.ioTlsPeer(b)?.[0]}`);
    desk.close(a, b);
    calls.ioFreeTlsContext(context);
  }
});

test('a certificate for a server does not prove a client, nor the other way round', async () => {
  // Certificates of the mesh have both usages. One that has neither is that of the CA itself.
  const { certificates } = await ca.first(clientIdentity);
  assert.ok(certificates.length === 1);
  const { socket, handle } = await nodeClient(desk, await ca.first(clientIdentity), {
    cert: undefined,
    key: undefined,
  });
  calls.ioTlsBegin(handle, server);
  assert.equal(await desk.handshake(handle), 1);
  assert.equal(calls.ioTlsPeer(handle)?.length, 3, 'there is no certificate');
  socket.destroy();
  desk.close(handle);
});

for (const { what, options, failure } of [
  { what: 'TLS 1.2', options: { maxVersion: 'TLSv1.2' }, failure: /unsupported protocol/ },
  { what: 'another ALPN', options: { ALPNProtocols: ['http/1.1'] }, failure: /no application protocol/ },
])
  test(`a client with ${what} fails with that reason, and gets an alert`, async () => {
    const { socket, handle } = await nodeClient(desk, await ca.first(clientIdentity), options);
    const failed = once(socket, 'error') as Promise<[Error & { code: string }]>;
    calls.ioTlsBegin(handle, server);
    assert.equal(await desk.handshake(handle), EPROTO);
    assert.match(calls.ioTlsFailure(handle), failure);
    assert.equal(calls.ioTlsHandshake(handle), EPROTO);
    assert.equal(desk.sendTls(handle, 'x'), EPROTO);
    assert.match((await failed)[0].code, /ALERT/);
    socket.destroy();
    desk.close(handle);
  });

test('a client without ALPN is a peer without one', async () => {
  const { socket, handle } = await nodeClient(desk, await ca.first(clientIdentity), { ALPNProtocols: undefined });
  calls.ioTlsBegin(handle, server);
  assert.equal(await desk.handshake(handle), 1);
  assert.equal(calls.ioTlsPeer(handle)?.[1], '');
  socket.destroy();
  desk.close(handle);
});

test('what is no TLS fails, and a peer that leaves is told apart', async () => {
  for (const [bytes, result] of [
    ['GET / HTTP/1.1\r\n\r\n', EPROTO],
    ['\u0000\u0001\u0002\u0003\u0004\u0005\u0006', EPROTO],
    ['\u0016\u0003\u0001\u00ff\u00ff', EPROTO],
    ['\u0016\u0003', ECONNABORTED],
    ['', ECONNABORTED],
  ] as const) {
    const { handle: listener, port } = desk.listen();
    const raw = connectTcp(port, '127.0.0.1').on('error', () => {});
    raw.end(bytes, 'latin1');
    const handle = await desk.accept(listener);
    calls.ioTlsBegin(handle, server);
    assert.equal(await desk.handshake(handle), result, JSON.stringify(bytes));
    if (result === EPROTO) assert.notEqual(calls.ioTlsFailure(handle), '');
    raw.destroy();
    desk.close(handle, listener);
  }
});

test('a record that was changed on its way, and one that was cut, give nothing of themselves', async () => {
  const [a, b] = await tlsPair(desk, [client, server]);
  desk.sendTls(a, 'good');
  assert.equal((await desk.receiveTls(b)).text, 'good');
  // A record of the right form that no key sealed.
  desk.send(a, Buffer.concat([Buffer.from([23, 3, 3, 0, 40]), Buffer.alloc(40, 7)]));
  const { text, bits, errno } = await desk.receiveTls(b);
  assert.deepEqual([text, bits & statusBit.failed, errno], ['', statusBit.failed, -EPROTO]);
  assert.match(calls.ioTlsFailure(b), /decryption failed or bad record mac/);
  const again = await desk.receiveTls(b);
  assert.deepEqual([again.text, again.bits, again.errno], ['', statusBit.failed, -EPROTO]);
  desk.close(a, b);

  const [c, d] = await tlsPair(desk, [client, server]);
  desk.sendTls(c, 'whole');
  desk.send(c, Buffer.from([23, 3, 3, 1, 0, 1, 2, 3]));
  calls.ioClose(c, 1);
  await desk.event(d, epollEvent.error | epollEvent.hangUp);
  const end = await readAll(d);
  assert.deepEqual([end.bytes, end.bits & statusBit.failed, end.errno], [5, statusBit.failed, 104]);
  assert.equal(desk.sendTls(d, 'x') < 0, true);
  desk.close(d);
});

test('a context may go while a handshake with it is under way', async () => {
  const brief = engineContext(desk, true, await ca.first(serverIdentity));
  const [a, b] = await desk.pair();
  calls.ioTlsBegin(a, client);
  calls.ioTlsBegin(b, brief);
  assert.equal(calls.ioFreeTlsContext(brief), 0);
  assert.equal(calls.ioTlsBegin(b, brief), EBADF);
  assert.deepEqual(await Promise.all([desk.handshake(a), desk.handshake(b)]), [1, 1]);
  desk.close(a, b);
});

test('what comes right behind the handshake is not lost', async () => {
  const { socket, handle } = await nodeServer(desk, await ca.first(serverIdentity));
  calls.ioTlsBegin(handle, client);
  socket.write('early');
  assert.equal(await desk.handshake(handle), 1);
  assert.equal(calls.ioTlsAdmit(handle), 0);
  assert.equal((await desk.receiveTls(handle)).text, 'early');
  socket.destroy();
  desk.close(handle);
});

test('a context of unusable parts says which part, and asks nothing', async () => {
  const { rootsPem, certificates } = await ca.first(clientIdentity);
  const [own] = certificates;
  const [chain, key, roots] = [own?.chainPem ?? '', own?.keyPem ?? '', rootsPem].map((text) => Buffer.from(text));
  const [other] = (await ca.issue(clientIdentity)).certificates;
  const encrypted = Buffer.from(
    '-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGrMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi\n-----END ENCRYPTED PRIVATE KEY-----\n',
  );
  const [h2, suite] = [Buffer.from('\u0002h2'), 'TLS_AES_128_GCM_SHA256'];
  const make = (...args: unknown[]): unknown => (calls.ioTlsContext as (...given: unknown[]) => unknown)(...args);
  assert.throws(() => make(true, Buffer.from('x'), key, roots, h2, suite, 1), /certificate chain/);
  assert.throws(() => make(true, chain, Buffer.from(other?.keyPem ?? ''), roots, h2, suite, 1), /private key/);
  assert.throws(() => make(true, chain, encrypted, roots, h2, suite, 1), /private key/);
  assert.throws(() => make(true, chain, key, Buffer.alloc(0), h2, suite, 1), /roots/);
  // A certificate behind the first that is damaged is not the end of the list.
  const text = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
  for (const damaged of [text, text.replace('AAAA', '!'), text.slice(0, 40)]) {
    const behind = (first: Buffer | undefined): Buffer => Buffer.concat([first ?? h2, Buffer.from(`\n${damaged}`)]);
    assert.throws(() => make(true, behind(chain), key, roots, h2, suite, 1), /certificate chain/);
    assert.throws(() => make(true, chain, key, behind(roots), h2, suite, 1), /roots/);
  }
  assert.throws(() => make(true, chain, key, roots, h2, 'NO_SUCH_SUITE', 1), /cipher suites/);
  for (const alpn of [Buffer.alloc(0), Buffer.from('\u0003h2'), Buffer.from('\u0000'), Buffer.alloc(65, 1)])
    assert.throws(() => make(true, chain, key, roots, alpn, suite, 1), /wrong arguments/);
  for (const args of [[], [true], [1, chain, key, roots, h2, suite, 1], [true, 'x', key, roots, h2, suite, 1]])
    assert.throws(() => make(...args), /wrong arguments/);
  assert.throws(() => make(true, chain, key, roots, h2, suite, 0), /wrong arguments/);
});
