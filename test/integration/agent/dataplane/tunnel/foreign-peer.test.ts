import assert from 'node:assert/strict';
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { leanHttp2Engine } from '../../../../../agent/dataplane/engine/lean/lean-http2-engine.js';
import { Http2TunnelClient } from '../../../../../agent/dataplane/tunnel/http2-tunnel-client.js';
import type { TunnelCertificates } from '../../../../../agent/dataplane/tunnel/tunnel.js';
import { importPkcs12 } from '../../../../../controller/ca/x509/pkcs12.js';
import { issueWorkloadCertificate } from '../../../../../controller/ca/x509/mesh-certificates.js';
import type { CertificateAuthority } from '../../../../../controller/ca/x509/certificate-authority.js';
import type { SpiffeId } from '../../../../../shared/identity.js';
import { createCsr } from '../../../../../shared/pki/certificate-request.js';
import { spiffeIdOf } from '../../../../../shared/pki/spiffe-id-of-certificate.js';
import { OpensslCas } from '../../../../support/controller/openssl-ca.js';
import { setting, uint32 } from '../../../../support/http2/engine-fixture.js';
import {
  clientIdentity,
  otherIdentity,
  serverIdentity,
  TestCa,
} from '../../../../support/tunnel/tunnel-certificates.js';
import { leanEngine } from '../../../../support/tunnel/tunnel-lean-engine.js';
import {
  eventually,
  readAll,
  serverIp,
  testSettings,
  TunnelPair,
  withDeadline,
} from '../../../../support/tunnel/tunnel-pair.js';
import {
  encodeFrame,
  encodeHeaders,
  endHeaders,
  endStream,
  frameType,
  RawPeer,
} from '../../../../support/tunnel/tunnel-raw-peer.js';

/**
 * What ztunnel announces and sends (its `proxy/h2`): windows of 4 and 16 MiB, frames of up to 1 MiB, no push, 16 KiB of
 * header fields as a client and 64 KiB as a server, and a CONNECT with these fields. The peer here is nghttp2.
 */
const windowBytes = 4_194_304;
const connectionWindowBytes = 16_777_216;
const frameBytes = 1_048_576;
const clientSettings = {
  enablePush: false,
  initialWindowSize: windowBytes,
  maxFrameSize: frameBytes,
  maxHeaderListSize: 16_384,
};
const serverSettings = {
  initialWindowSize: windowBytes,
  maxFrameSize: frameBytes,
  maxHeaderListSize: 65_536,
  maxConcurrentStreams: 200,
};
const connectFields = {
  baggage:
    'k8s.namespace.name=shop,k8s.deployment.name=front,service.name=front,service.version=v1,cloud.region=,cloud.availability_zone=',
  forwarded: 'by=127.0.0.9:5432;for=127.0.0.1',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
};
const bulk = randomBytes(32 * 1024 * 1024);
const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** A root with RSA, as Istio makes its own, that both sides trust. */
let root: CertificateAuthority;
let cas: OpensslCas;
before(async () => {
  cas = await OpensslCas.create();
  const file = await cas.export(await cas.make({ key: 'rsa2048' }));
  root = await importPkcs12({ pkcs12: await readFile(file), password: 'secret' });
});
after(() => cas[Symbol.asyncDispose]());

async function leaf(identity: SpiffeId): Promise<TunnelCertificates> {
  const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity });
  const { chainPem, notAfterMs } = await issueWorkloadCertificate({ issuer: root, csrPem, identity, ttlMs: 3_600_000 });
  return { rootsPem: root.rootPem, certificates: [{ identity, chainPem, keyPem, notAfterMs }] };
}

async function tlsOf(identity: SpiffeId): Promise<{ cert: string; key: string; ca: string; minVersion: 'TLSv1.3' }> {
  const { rootsPem, certificates } = await leaf(identity);
  const { chainPem: cert, keyPem: key } = certificates[0]!;
  return { cert, key, ca: rootsPem, minVersion: 'TLSv1.3' };
}

/** Our server, with a certificate of the common root. */
async function ourServer(): Promise<TunnelPair> {
  const pair = await TunnelPair.start(leanEngine, await TestCa.create());
  pair.server.replaceCertificates(await leaf(serverIdentity));
  return pair;
}

async function foreignClient(port: number): Promise<http2.ClientHttp2Session> {
  const session = http2.connect(`https://${serverIp}:${port}`, {
    ...(await tlsOf(clientIdentity)),
    checkServerIdentity: (_host, { raw }) =>
      spiffeIdOf(raw) === serverIdentity ? undefined : new Error('another peer'),
    settings: clientSettings,
  });
  session.on('error', () => {});
  await withDeadline('the connection', once(session, 'connect'));
  session.setLocalWindowSize(connectionWindowBytes);
  return session;
}

function connect(session: http2.ClientHttp2Session, authority = `${serverIp}:5432`): http2.ClientHttp2Stream {
  const stream = session.request({ ':method': 'CONNECT', ':authority': authority, ...connectFields });
  stream.on('error', () => {});
  return stream;
}

async function statusOf(stream: http2.ClientHttp2Stream): Promise<number | undefined> {
  const [headers] = (await withDeadline('the answer', once(stream, 'response'))) as [http2.IncomingHttpHeaders];
  return Number(headers[':status']);
}

async function contentOf(stream: NodeJS.ReadableStream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await withDeadline('the end', once(stream, 'end'), 60_000);
  return Buffer.concat(chunks);
}

test('a leaf has an empty subject and one critical name, the identity, under a root with RSA', async () => {
  const { certificates } = await leaf(serverIdentity);
  const certificate = new X509Certificate(certificates[0]!.chainPem);
  // Node shows an empty subject as undefined until version 24, then as an empty text.
  assert.equal(certificate.subject ?? '', '');
  assert.equal(certificate.subjectAltName, `URI:${serverIdentity}`);
  assert.equal(spiffeIdOf(certificate.raw), serverIdentity);
  assert.ok(certificate.verify(new X509Certificate(root.rootPem).publicKey));
  assert.equal(new X509Certificate(root.rootPem).publicKey.asymmetricKeyType, 'rsa');
});

test('a client of other make moves 32 MiB both ways, and its FIN comes through before the answer', async () => {
  await using pair = await ourServer();
  const baggage: string[] = [];
  pair.onConnect = (request): void => {
    baggage.push(request.headers.baggage);
    const stream = request.accept();
    void readAll(stream).then((sent) => stream.end(Buffer.concat([Buffer.from(digestOf(sent)), bulk])));
  };
  const session = await foreignClient(pair.port);
  const stream = connect(session);
  assert.equal(await statusOf(stream), 200);
  stream.end(bulk);
  const answer = await contentOf(stream);
  assert.equal(answer.subarray(0, 64).toString(), digestOf(bulk));
  assert.equal(digestOf(answer.subarray(64)), digestOf(bulk));
  assert.deepEqual(baggage, [connectFields.baggage]);
  session.destroy();
});

test('two hundred connections of a client of other make live in two tunnels at once', async () => {
  await using pair = await ourServer();
  const sessions = [await foreignClient(pair.port), await foreignClient(pair.port)];
  const streams = Array.from({ length: 200 }, (_, index) => connect(sessions[index % 2]!));
  const answers = await Promise.all(
    streams.map(async (stream, index) => {
      assert.equal(await statusOf(stream), 200);
      stream.end(`connection ${index}`);
      return (await contentOf(stream)).toString();
    }),
  );
  assert.deepEqual(
    answers,
    streams.map((_, index) => `connection ${index}`),
  );
  for (const session of sessions) session.destroy();
});

test('a refusal reaches a client of other make as a status, and the tunnel lives on', async () => {
  await using pair = await ourServer();
  pair.onConnect = (request): void => request.refuse({ reason: 'POLICY_DENY', rule: null });
  const session = await foreignClient(pair.port);
  assert.equal(await statusOf(connect(session)), 401);
  assert.equal(await statusOf(connect(session)), 401);
  assert.equal(session.destroyed, false);
  session.destroy();
});

test('the exact preface of ztunnel is taken, and one frame as large as we announce', async () => {
  await using pair = await ourServer();
  const received = new Promise<Buffer>((resolve, reject) => {
    pair.onConnect = (request) => void readAll(request.accept()).then(resolve, reject);
  });
  await using peer = await RawPeer.connect(pair.port, await leaf(clientIdentity));
  peer.send(
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    encodeFrame(
      frameType.settings,
      0,
      0,
      Buffer.concat([setting(2, 0), setting(4, windowBytes), setting(5, frameBytes), setting(6, 16_384)]),
    ),
    encodeFrame(frameType.window, 0, 0, uint32(connectionWindowBytes - 65_535)),
  );
  await eventually('our settings', () =>
    peer.frames.some(({ type, flags }) => type === frameType.settings && flags === 0),
  );
  const announced = peer.frames.find(({ type, flags }) => type === frameType.settings && flags === 0)!.payload;
  const limit = Array.from({ length: announced.length / 6 }, (_, index) => announced.subarray(index * 6, index * 6 + 6))
    .filter((entry) => entry.readUInt16BE(0) === 5)
    .map((entry) => entry.readUInt32BE(2))[0];
  assert.ok(limit !== undefined && limit >= 16_384);
  const frame = bulk.subarray(0, Math.min(limit, 65_536));
  const block = encodeHeaders({ ':method': 'CONNECT', ':authority': `${serverIp}:5432`, ...connectFields });
  peer.send(
    encodeFrame(frameType.settings, 1, 0),
    encodeFrame(frameType.headers, endHeaders, 1, block),
    encodeFrame(frameType.data, endStream, 1, frame),
    encodeFrame(frameType.ping, 0, 0, Buffer.alloc(8)),
  );
  assert.equal(digestOf(await withDeadline('the frame', received)), digestOf(frame));
  await eventually('the answer to the PING', () =>
    peer.frames.some(({ type, flags }) => type === frameType.ping && flags === 1),
  );
});

/** A server of other make with a certificate of the common root, and our client for it. */
async function withForeignServer(
  onConnect: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  run: (o: { open: (identity?: SpiffeId) => ReturnType<Http2TunnelClient['open']> }) => Promise<void>,
): Promise<void> {
  const server = http2.createSecureServer({
    ...(await tlsOf(serverIdentity)),
    requestCert: true,
    rejectUnauthorized: true,
    settings: serverSettings,
  });
  server.on('session', (session: http2.ServerHttp2Session) => {
    session.on('error', () => {});
    session.setLocalWindowSize(connectionWindowBytes);
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    onConnect(stream, headers);
  });
  server.listen(0, serverIp);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = new Http2TunnelClient({
    settings: testSettings,
    engine: leanHttp2Engine,
    dialRaw: () => net.connect({ host: serverIp, port, allowHalfOpen: true }),
  });
  client.replaceCertificates(await leaf(clientIdentity));
  await using pair = await TunnelPair.start(leanEngine, await TestCa.create());
  try {
    await run({
      open: (identity = serverIdentity) =>
        client.open(pair.authorized(), pair.target({ destinationIdentity: identity, headers: connectFields })),
    });
  } finally {
    await client.drain(0);
    server.close();
  }
}

test('a server of other make gets 32 MiB and the FIN, and answers with as much', async () => {
  const asked: http2.IncomingHttpHeaders[] = [];
  await withForeignServer(
    (stream, headers) => {
      asked.push(headers);
      stream.respond({ ':status': 200 });
      void contentOf(stream).then((sent) => stream.end(Buffer.concat([Buffer.from(digestOf(sent)), bulk])));
    },
    async ({ open }) => {
      const opened = await open();
      assert.ok(opened.ok);
      opened.stream.end(bulk);
      const answer = await readAll(opened.stream);
      assert.equal(answer.subarray(0, 64).toString(), digestOf(bulk));
      assert.equal(digestOf(answer.subarray(64)), digestOf(bulk));
    },
  );
  assert.equal(asked[0]?.[':authority'], `${serverIp}:5432`);
  assert.equal(asked[0]?.['baggage'], connectFields.baggage);
});

test('what a server of other make refuses is refused here, and another identity than expected is never spoken to', async () => {
  let requests = 0;
  await withForeignServer(
    (stream) => {
      requests++;
      stream.respond({ ':status': 401 }, { endStream: true });
    },
    async ({ open }) => {
      const refused = await open();
      assert.deepEqual([refused.ok, requests], [false, 1]);
      const other = await open(otherIdentity);
      assert.deepEqual([other.ok, requests], [false, 1]);
    },
  );
});
