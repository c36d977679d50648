import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { createServer, type TLSSocket } from 'node:tls';
import { Reactor } from '../../../../../agent/dataplane/io/reactor.js';
import { identityError, verdictOn, type Rejection } from '../../../../../agent/dataplane/tunnel/peer-verdict.js';
import type { TunnelCertificates } from '../../../../../agent/dataplane/tunnel/tunnel.js';
import type { SpiffeId } from '../../../../../shared/identity.js';
import { dialTls, nodeClient, nodeServer, tlsContext, TlsEnd } from '../../../../support/agent/tls-end.js';
import {
  clientIdentity,
  otherIdentity,
  serverIdentity,
  strangerIdentity,
  TestCa,
} from '../../../../support/tunnel/tunnel-certificates.js';
import { withDeadline } from '../../../../support/tunnel/tunnel-pair.js';

/**
 * What a handshake of the floor shows of a peer, and what is made of it. Node's TLS judges the same certificates, and must come
 * to the same result.
 */
const hourMs = 3_600_000;
const reactor = Reactor.ofThread();
let ca: TestCa;
let other: TestCa;
let company: TestCa;

before(async () => {
  [ca, other, company] = await Promise.all([TestCa.create(), TestCa.create(), TestCa.ofCompany()]);
});
after(() => assert.equal(reactor.calls.ioCounts(), 0));

/** What a server of the floor that trusts `rootsPem` makes of a client with these certificates. */
async function judge(certificates: TunnelCertificates, rootsPem: string, options: object = {}): Promise<Judged> {
  const context = tlsContext(reactor, 'server', await ca.first(serverIdentity), { rootsPem });
  const end = new TlsEnd();
  end.judge = () => {};
  const socket = await nodeClient(reactor, { context, end }, certificates, { rejectUnauthorized: false, ...options });
  await end.admitted();
  socket.destroy();
  end.live.close();
  context.free();
  assert.ok(end.peer);
  return { verdict: verdictOn(end.peer, serverIdentity), code: end.peer.distrust?.code ?? null };
}

type Judged = { readonly verdict: SpiffeId | Rejection; readonly code: string | null };

/** What Node's TLS makes of a client of the floor with these certificates. */
async function codeOfNode({ certificates, rootsPem }: TunnelCertificates, trusted: string): Promise<string | null> {
  const [own] = (await ca.first(serverIdentity)).certificates;
  const identity = { ca: trusted, cert: own?.chainPem, key: own?.keyPem };
  const server = createServer({ ...identity, requestCert: true, rejectUnauthorized: false, ALPNProtocols: ['h2'] });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const secure = once(server, 'secureConnection') as Promise<[TLSSocket]>;
  const context = tlsContext(reactor, 'client', { certificates, rootsPem });
  const end = new TlsEnd();
  end.judge = () => {};
  dialTls(reactor, (server.address() as AddressInfo).port, context, end);
  const [[socket]] = await Promise.all([withDeadline('the handshake at Node', secure), end.admitted()]);
  const code = socket.authorized ? null : String(socket.authorizationError);
  socket.on('error', () => {}).destroy();
  server.close();
  end.live.close();
  context.free();
  return code;
}

test('a client is judged as by Node, whatever its certificate is', async () => {
  const { rootPem } = ca.root;
  const cases: readonly [TunnelCertificates, roots: string, verdict: Judged['verdict'], code: string | null][] = [
    [await ca.first(clientIdentity), rootPem, clientIdentity, null],
    [
      await ca.issue(clientIdentity, { startsInMs: -2 * hourMs, ttlMs: hourMs }),
      rootPem,
      { kind: 'expired_certificate', reason: 'CERT_EXPIRED' },
      'CERT_HAS_EXPIRED',
    ],
    [
      await ca.issue(clientIdentity, { startsInMs: hourMs }),
      rootPem,
      { kind: 'not_yet_valid_certificate', reason: 'CERT_NOT_YET_VALID' },
      'CERT_NOT_YET_VALID',
    ],
    [
      await other.first(clientIdentity),
      rootPem,
      { kind: 'untrusted_certificate', reason: 'TLS_HANDSHAKE' },
      'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    ],
    [
      await company.issue(strangerIdentity),
      company.root.rootPem,
      { kind: 'wrong_identity', reason: 'PEER_IDENTITY' },
      null,
    ],
    // While roots are replaced both count.
    [await ca.first(clientIdentity), `${other.root.rootPem}\n${rootPem}`, clientIdentity, null],
    [await other.first(clientIdentity), `${other.root.rootPem}\n${rootPem}`, clientIdentity, null],
  ];
  for (const [certificates, roots, verdict, code] of cases) {
    const judged = await judge(certificates, roots);
    assert.deepEqual(judged, { verdict, code: judged.code });
    assert.equal(judged.code, await codeOfNode(certificates, roots));
    assert.equal(judged.code, code);
  }
});

test('a client without a certificate, or without h2, is no peer', async () => {
  const certificates = await ca.first(clientIdentity);
  const none = await judge(certificates, ca.root.rootPem, { cert: undefined, key: undefined });
  assert.deepEqual(none.verdict, { kind: 'no_certificate', reason: 'TLS_HANDSHAKE' });
  const mute = await judge(certificates, ca.root.rootPem, { ALPNProtocols: undefined });
  assert.deepEqual(mute.verdict, { kind: 'tls_failed', reason: 'TLS_HANDSHAKE' });
});

test('a resumed session proves nothing', () => {
  const proof = { alpn: 'h2', isResumed: true, certificate: null, distrust: null };
  assert.deepEqual(verdictOn(proof, serverIdentity), { kind: 'tls_failed', reason: 'TLS_HANDSHAKE' });
});

test('a client takes exactly the identity that it dialled', async () => {
  const context = tlsContext(reactor, 'client', await ca.first(clientIdentity));
  for (const identity of [serverIdentity, otherIdentity]) {
    const end = new TlsEnd();
    end.judge = () => {};
    const socket = await nodeServer(reactor, { context, end }, await ca.first(identity));
    await end.admitted();
    assert.equal(end.peer?.distrust, null);
    const error = identityError(serverIdentity, end.peer?.certificate ?? Buffer.alloc(0));
    if (identity === serverIdentity) assert.equal(error, undefined);
    else assert.match(String(error), /PEER_IDENTITY|expected .*back, the certificate proves .*other/);
    socket.destroy();
    end.live.close();
  }
  context.free();
});
