import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import type { SpiffeId } from '../../../../shared/identity.js';
import {
  createIssuingCa,
  createRootCa,
  type CertificateAuthority,
} from '../../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { joinCertificates } from '../../../../shared/pki/pem.js';
import { exportPkcs12, importPkcs12 } from '../../../../controller/ca/x509/pkcs12.js';
import { spiffeIdOf } from '../../../../shared/pki/spiffe-id-of-certificate.js';
import { issueWorkloadCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';
import { within } from '../../../support/bus/bus-deadline.js';

const run = promisify(execFile);
const trustDomain = 'mesh.test';
const hourMs = 3_600_000;

type Leaf = { readonly cert: string; readonly key: string; readonly identity: SpiffeId };

let directory: string;
let root: CertificateAuthority;
let issuing: CertificateAuthority;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'culvert-pki-'));
  root = await createRootCa({ trustDomain });
  issuing = await createIssuingCa({ root, trustDomain });
});
after(() => rm(directory, { recursive: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(join(directory, name), content);
  return join(directory, name);
}

async function leafOf(issuer: CertificateAuthority, serviceAccount: string, now = Date.now()): Promise<Leaf> {
  const identity = `spiffe://${trustDomain}/ns/shop/sa/${serviceAccount}` as SpiffeId;
  const { csrPem, privateKeyPem } = await createCsr({ identity });
  const { chainPem } = await issueWorkloadCertificate({ issuer, csrPem, identity, ttlMs: hourMs, now });
  return { cert: chainPem, key: privateKeyPem, identity };
}

/** Both sides of a mutual TLS 1.3 handshake: the identity of each peer, or the error that rejected it. */
async function handshake(
  server: Leaf & { readonly ca: string },
  client: Leaf & { readonly ca: string },
): Promise<{ server: SpiffeId | null; client: SpiffeId | null } | string> {
  const options = { minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: true } as const;
  const listener = createServer({ ...options, cert: server.cert, key: server.key, ca: server.ca });
  const refusals: string[] = [];
  listener.on('tlsClientError', (error: NodeJS.ErrnoException) => refusals.push(String(error.code)));
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const accepted = once(listener, 'secureConnection') as Promise<[TLSSocket]>;
  accepted.catch(() => undefined);
  const socket = connect({
    port: (listener.address() as AddressInfo).port,
    host: '127.0.0.1',
    cert: client.cert,
    key: client.key,
    ca: client.ca,
    minVersion: 'TLSv1.3',
    checkServerIdentity: () => undefined,
  });
  try {
    await within('the handshake', once(socket, 'secureConnect'));
    // In TLS 1.3 the client is done before the server has judged its certificate.
    const outcome = await within('the verdict', Promise.race([accepted, once(socket, 'close'), once(socket, 'error')]));
    const [peer] = outcome as [TLSSocket | undefined];
    if (peer === undefined || !('getPeerCertificate' in peer)) return refusals[0] ?? 'closed';
    peer.on('error', () => undefined);
    const found = {
      server: spiffeIdOf(socket.getPeerCertificate().raw),
      client: spiffeIdOf(peer.getPeerCertificate().raw),
    };
    peer.destroy();
    return found;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  } finally {
    socket.on('error', () => undefined);
    socket.destroy();
    listener.close();
  }
}

test('openssl accepts the chain of a workload for both ends of TLS, by the letter of X.509', async () => {
  const leaf = await leafOf(issuing, 'web');
  const chain = await file('leaf.pem', leaf.cert);
  const anchors = await file('root.pem', root.rootPem);
  for (const purpose of ['sslserver', 'sslclient']) {
    const flags = ['-x509_strict', '-purpose', purpose, '-CAfile', anchors, '-untrusted', chain];
    assert.match((await run('openssl', ['verify', ...flags, chain])).stdout, /: OK/);
  }
});

test('openssl refuses a leaf that another leaf signed', async () => {
  const leaf = await leafOf(issuing, 'web');
  const pretender: CertificateAuthority = {
    ...issuing,
    certificatePem: leaf.cert,
    chainPem: leaf.cert,
    privateKeyPem: leaf.key,
  };
  const forged = await leafOf(pretender, 'admin');
  const chain = await file('forged.pem', forged.cert);
  const anchors = await file('root.pem', root.rootPem);
  await assert.rejects(
    run('openssl', ['verify', '-CAfile', anchors, '-untrusted', chain, chain]),
    /invalid CA|verification failed|unable/i,
  );
  const ca = root.rootPem;
  assert.equal(typeof (await handshake({ ...(await leafOf(issuing, 'web')), ca }, { ...forged, ca })), 'string');
});

test('both ends of mutual TLS 1.3 prove their identities', async () => {
  const ca = root.rootPem;
  const [web, db] = [await leafOf(issuing, 'web'), await leafOf(issuing, 'db')];
  assert.deepEqual(await handshake({ ...db, ca }, { ...web, ca }), { server: db.identity, client: web.identity });
});

test('a certificate of another CA with the same name is refused by either side', async () => {
  const foreignRoot = await createRootCa({ trustDomain });
  const foreign = await leafOf(await createIssuingCa({ root: foreignRoot, trustDomain }), 'web');
  const db = await leafOf(issuing, 'db');
  const both = joinCertificates([root.rootPem, foreignRoot.rootPem]);
  assert.equal(typeof (await handshake({ ...db, ca: root.rootPem }, { ...foreign, ca: both })), 'string');
  assert.equal(typeof (await handshake({ ...foreign, ca: both }, { ...db, ca: root.rootPem })), 'string');
});

test('an expired certificate is refused', async () => {
  const late = await leafOf(issuing, 'web');
  const old = await createRootCa({ trustDomain, now: Date.now() - 10 * hourMs });
  const expired = await leafOf(
    await createIssuingCa({ root: old, trustDomain, now: Date.now() - 5 * hourMs }),
    'web',
    Date.now() - 4 * hourMs,
  );
  const ca = joinCertificates([root.rootPem, old.rootPem]);
  assert.equal(await handshake({ ...expired, ca }, { ...late, ca }), 'CERT_HAS_EXPIRED');
});

test('while roots rotate, leaves of the old and the new one accept each other', async () => {
  const newRoot = await createRootCa({ trustDomain });
  const fresh = await leafOf(await createIssuingCa({ root: newRoot, trustDomain }), 'db');
  const web = await leafOf(issuing, 'web');
  const ca = joinCertificates([root.rootPem, newRoot.rootPem]);
  assert.deepEqual(await handshake({ ...fresh, ca }, { ...web, ca }), { server: fresh.identity, client: web.identity });
  assert.deepEqual(await handshake({ ...web, ca }, { ...fresh, ca }), { server: web.identity, client: fresh.identity });
});

test('openssl reads the CA that was exported as PKCS#12', async () => {
  const p12 = await file('ca.p12', exportPkcs12({ authority: issuing, password: 'pässwort 1' }));
  const { stdout } = await run('openssl', ['pkcs12', '-in', p12, '-passin', 'pass:pässwort 1', '-nodes']);
  assert.equal(stdout.split('BEGIN CERTIFICATE').length - 1, 2);
  assert.match(stdout, /BEGIN PRIVATE KEY/);
  await assert.rejects(run('openssl', ['pkcs12', '-in', p12, '-passin', 'pass:wrong', '-nodes']), /invalid password/i);
});

test('a CA survives export and import, and a wrong password or a damaged file is named', async () => {
  const pkcs12 = exportPkcs12({ authority: issuing, password: 'secret' });
  assert.deepEqual(await importPkcs12({ pkcs12, password: 'secret' }), issuing);
  await assert.rejects(importPkcs12({ pkcs12, password: 'wrong' }), { code: 'PKCS12_PASSWORD' });
  await assert.rejects(importPkcs12({ pkcs12, password: '' }), { code: 'PKCS12_PASSWORD' });
  await assert.rejects(importPkcs12({ pkcs12: pkcs12.subarray(0, 300), password: 'secret' }), {
    code: 'PKCS12_INVALID',
  });
  await assert.rejects(importPkcs12({ pkcs12: Buffer.from('hello'), password: 'secret' }), { code: 'PKCS12_INVALID' });
});

for (const extra of [
  [],
  ['-legacy'],
  ['-certpbe', 'AES-128-CBC', '-macalg', 'sha512'],
  ['-keypbe', 'NONE', '-certpbe', 'NONE'],
]) {
  test(`a CA that openssl exported is imported (${extra.join(' ') || 'its defaults'})`, async () => {
    const key = await file('ca.key', issuing.privateKeyPem);
    const certificate = await file('ca.pem', issuing.certificatePem);
    const anchors = await file('root.pem', root.rootPem);
    const out = join(directory, 'openssl.p12');
    await run('openssl', [
      'pkcs12',
      '-export',
      ...extra,
      '-inkey',
      key,
      '-in',
      certificate,
      '-certfile',
      anchors,
      '-out',
      out,
      '-passout',
      'pass:secret',
    ]);
    const imported = await importPkcs12({ pkcs12: await readFile(out), password: 'secret' });
    assert.deepEqual(imported, issuing);
  });
}

test('a PKCS#12 file of a short RSA key is refused with what to do', async () => {
  const key = join(directory, 'rsa.key');
  const certificate = join(directory, 'rsa.pem');
  await run('openssl', [
    'req',
    '-x509',
    '-newkey',
    'rsa:1024',
    '-nodes',
    '-keyout',
    key,
    '-out',
    certificate,
    '-subj',
    '/CN=rsa',
  ]);
  const out = join(directory, 'rsa.p12');
  await run('openssl', [
    'pkcs12',
    '-export',
    '-inkey',
    key,
    '-in',
    certificate,
    '-out',
    out,
    '-passout',
    'pass:secret',
  ]);
  await assert.rejects(importPkcs12({ pkcs12: await readFile(out), password: 'secret' }), {
    code: 'KEY_INVALID',
    hint: /P-256 or P-384, or an RSA key of 2048 to 4096 bits/,
  });
});
