import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import type { SpiffeId } from '../../../../shared/identity.js';
import {
  createIssuingCa,
  createRootCa,
  loadCertificateAuthority,
  type CertificateAuthority,
} from '../../../../controller/ca/x509/certificate-authority.js';
import { certificateHash, describeCertificate } from '../../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { parseCsr } from '../../../../controller/ca/x509/parsed-certificate-request.js';
import { issueLeaf, type LeafRequest } from '../../../../controller/ca/x509/leaf-certificate.js';
import {
  issueNodeCertificate,
  issueServerCertificate,
  issueWorkloadCertificate,
} from '../../../../controller/ca/x509/mesh-certificates.js';
import { joinCertificates, splitCertificates } from '../../../../shared/pki/pem.js';
import { spiffeIdOf } from '../../../../shared/pki/spiffe-id-of-certificate.js';
import { nodeNamed } from '../../../support/routing/names.js';

const trustDomain = 'mesh.test';
const identity = `spiffe://${trustDomain}/ns/shop/sa/web` as SpiffeId;
const hourMs = 3_600_000;
const now = Date.UTC(2026, 5, 1);

const root = await createRootCa({ trustDomain, now });
const issuing = await createIssuingCa({ root, trustDomain, now });
const csr = await createCsr({ identity });

async function leafWithNames(names: LeafRequest['names']): Promise<Uint8Array> {
  const { publicKey } = await parseCsr(csr.csrPem);
  const leaf = await issueLeaf({ issuer: issuing, publicKey, names, usages: ['server'], ttlMs: hourMs, now });
  return new X509Certificate(leaf.chainPem).raw;
}

async function issue(issuer: CertificateAuthority, ttlMs: number): ReturnType<typeof issueWorkloadCertificate> {
  return issueWorkloadCertificate({ issuer, csrPem: csr.csrPem, identity, ttlMs, now });
}

test('a workload certificate says its identity, is valid from five minutes ago and ends after its lifetime', async () => {
  const leaf = await issue(issuing, 24 * hourMs);
  const info = describeCertificate(leaf.chainPem);
  assert.equal(info.spiffeId, identity);
  assert.equal(info.notBeforeMs, now - 300_000);
  assert.equal(info.notAfterMs, now + 24 * hourMs);
  assert.equal(leaf.notAfterMs, info.notAfterMs);
  assert.equal(info.subject, '');
  assert.equal(info.isCa, false);
  assert.equal(info.serial, leaf.serial);
  assert.match(leaf.serial, /^[4-7][0-9a-f]{39}$/);
  assert.equal(splitCertificates(leaf.chainPem).length, 2);
});

test('the names, usages and lifetime of a request do not reach the certificate', async () => {
  const other = `spiffe://${trustDomain}/ns/shop/sa/admin` as SpiffeId;
  const asking = await createCsr({ identity: other });
  const leaf = await issueWorkloadCertificate({ issuer: issuing, csrPem: asking.csrPem, identity, ttlMs: hourMs, now });
  assert.equal(describeCertificate(leaf.chainPem).spiffeId, identity);
  assert.ok(!new X509Certificate(leaf.chainPem).toString().includes('admin'));
});

test('a leaf and an issuing CA never outlive the one who signed them', async () => {
  const short = await createIssuingCa({ root, trustDomain, validForMs: hourMs, now });
  assert.equal((await issue(short, 24 * hourMs)).notAfterMs, now + hourMs);
  const shortRoot = await createRootCa({ trustDomain, validForMs: hourMs, now });
  const under = await createIssuingCa({ root: shortRoot, trustDomain, now });
  assert.equal(under.notAfterMs, shortRoot.notAfterMs);
});

test('an expired authority signs nothing', async () => {
  const short = await createIssuingCa({ root, trustDomain, validForMs: hourMs, now });
  const late = { issuer: short, csrPem: csr.csrPem, identity, ttlMs: hourMs, now: now + 2 * hourMs };
  await assert.rejects(issueWorkloadCertificate(late), { code: 'CA_EXPIRED' });
});

test('a lifetime of zero and an identity of another shape are refused', async () => {
  await assert.rejects(issue(issuing, 0), { code: 'TTL_INVALID' });
  const wrong = 'spiffe://mesh.test/shop/web' as SpiffeId;
  const request = { issuer: issuing, csrPem: csr.csrPem, identity: wrong, ttlMs: hourMs, now };
  await assert.rejects(issueWorkloadCertificate(request), { code: 'IDENTITY_INVALID' });
});

test('a request whose signature does not fit its key is refused', async () => {
  const [begin = '', ...rest] = csr.csrPem.trim().split('\n');
  const der = Buffer.from(rest.slice(0, -1).join(''), 'base64');
  der.writeUInt8(der.readUInt8(der.length - 1) ^ 1, der.length - 1);
  const tampered = `${begin}\n${der.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
  await assert.rejects(parseCsr(tampered), { code: 'CSR_INVALID' });
});

test('garbage, an empty text and an oversized request are refused', async () => {
  for (const text of [
    '',
    'hello',
    '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n',
    'A'.repeat(9000),
  ]) {
    await assert.rejects(parseCsr(text), { code: 'CSR_INVALID' });
  }
});

test('exactly one URI that is a workload identity proves an identity', async () => {
  const other = `spiffe://${trustDomain}/ns/shop/sa/db`;
  const cases: [LeafRequest['names'], SpiffeId | null][] = [
    [[{ type: 'url', value: identity }], identity],
    [
      [
        { type: 'url', value: identity },
        { type: 'dns', value: 'web.shop' },
      ],
      identity,
    ],
    [
      [
        { type: 'url', value: identity },
        { type: 'url', value: other },
      ],
      null,
    ],
    [
      [
        { type: 'url', value: identity },
        { type: 'url', value: identity },
      ],
      null,
    ],
    [[{ type: 'dns', value: 'web.shop' }], null],
    [[{ type: 'dns', value: `web, URI:${identity}` }], null],
    [[{ type: 'url', value: `https://${trustDomain}/ns/shop/sa/web` }], null],
    [[{ type: 'url', value: `${identity}/` }], null],
    [[{ type: 'url', value: `${identity}?a=b` }], null],
    [[{ type: 'url', value: `${identity}\n` }], null],
    [[{ type: 'url', value: `${identity}\0` }], null],
    [[{ type: 'url', value: identity.toUpperCase() }], null],
    [[{ type: 'url', value: `spiffe://${trustDomain}/ns/shop/sa/web%2fadmin` }], null],
    [[{ type: 'url', value: `spiffe://${trustDomain}/ns/../sa/web` }], null],
    [[{ type: 'url', value: `spiffe://user@${trustDomain}/ns/shop/sa/web` }], null],
    [[{ type: 'url', value: `spiffe://${trustDomain}:443/ns/shop/sa/web` }], null],
  ];
  for (const [names, expected] of cases) {
    assert.equal(spiffeIdOf(await leafWithNames(names)), expected, JSON.stringify(names));
  }
});

test('a CA, a node certificate and bytes that are no certificate prove no workload identity', async () => {
  assert.equal(spiffeIdOf(new X509Certificate(root.certificatePem).raw), null);
  const node = await issueNodeCertificate({
    issuer: issuing,
    csrPem: csr.csrPem,
    trustDomain,
    node: nodeNamed('n1'),
    ttlMs: hourMs,
    now,
  });
  assert.equal(spiffeIdOf(new X509Certificate(node.chainPem).raw), null);
  assert.equal(describeCertificate(node.chainPem).spiffeId, 'spiffe://mesh.test/culvert/node/n1');
  const good = await leafWithNames([{ type: 'url', value: identity }]);
  for (let length = 0; length < good.length; length++) assert.equal(spiffeIdOf(good.subarray(0, length)), null);
  assert.equal(spiffeIdOf(Buffer.concat([good, Buffer.from([0])])), null);
});

test('a certificate with any single byte changed proves its own identity, another well-formed one or none, and never throws', async () => {
  const good = await leafWithNames([{ type: 'url', value: identity }]);
  for (let index = 0; index < good.length; index++) {
    const changed = Buffer.from(good);
    changed.writeUInt8(changed.readUInt8(index) ^ 0x55, index);
    const found = spiffeIdOf(changed);
    assert.ok(found === null || /^spiffe:\/\/[a-z0-9._-]+\/ns\/[a-z0-9-]+\/sa\/[a-z0-9.-]+$/.test(found));
  }
});

test('the hash of a CA is the one of its public key, not of its certificate', async () => {
  assert.match(certificateHash(root.certificatePem), /^[0-9a-f]{64}$/);
  assert.notEqual(certificateHash(root.certificatePem), certificateHash(issuing.certificatePem));
  assert.equal(certificateHash(root.certificatePem), certificateHash(new X509Certificate(root.certificatePem).raw));
});

test('the hash of a certificate whose key cannot be read is an error that says so', () => {
  const der = Buffer.from(root.certificatePem.replace(/-----[^-]+-----/g, ''), 'base64');
  // An EC point that is neither compressed nor not (SEC 1, section 2.3.3), after the bit string's length.
  const point = der.indexOf(Buffer.from('03420004', 'hex')) + 3;
  assert.equal(der[point], 4);
  der[point] = 9;
  assert.throws(() => certificateHash(der), { code: 'CERTIFICATE_INVALID' });
});

test('an authority is loaded from its certificates in any order behind its own', async () => {
  const loaded = await loadCertificateAuthority({
    certificatesPem: issuing.certificatePem + root.rootPem + root.rootPem,
    privateKeyPem: issuing.privateKeyPem,
  });
  assert.deepEqual(loaded, issuing);
});

test('an authority with a foreign key, without its root, or that is no CA is refused', async () => {
  const leaf = await issue(issuing, hourMs);
  const cases = [
    { certificatesPem: issuing.certificatePem + root.rootPem, privateKeyPem: root.privateKeyPem },
    { certificatesPem: issuing.certificatePem, privateKeyPem: issuing.privateKeyPem },
    { certificatesPem: leaf.chainPem + root.rootPem, privateKeyPem: csr.privateKeyPem },
    { certificatesPem: '', privateKeyPem: issuing.privateKeyPem },
  ];
  for (const options of cases) await assert.rejects(loadCertificateAuthority(options), { code: 'CA_INVALID' });
  const noKey = { certificatesPem: issuing.certificatePem + root.rootPem, privateKeyPem: 'nothing' };
  await assert.rejects(loadCertificateAuthority(noKey), { code: 'KEY_INVALID' });
});

test('a look-alike root with the same name does not pass for the issuer', async () => {
  const lookAlike = await createRootCa({ trustDomain, now });
  assert.equal(describeCertificate(lookAlike.rootPem).subject, describeCertificate(root.rootPem).subject);
  const options = { certificatesPem: issuing.certificatePem + lookAlike.rootPem, privateKeyPem: issuing.privateKeyPem };
  await assert.rejects(loadCertificateAuthority(options), { code: 'CA_INVALID' });
});

test('a server certificate carries its names and addresses and serves as a server only', async () => {
  const leaf = await issueServerCertificate({
    issuer: issuing,
    csrPem: csr.csrPem,
    dnsNames: ['controller.test', 'x'.repeat(63)],
    ipAddresses: ['198.18.0.1', 'fd00::1'],
    ttlMs: hourMs,
    now,
  });
  const certificate = new X509Certificate(leaf.chainPem);
  assert.equal(certificate.checkHost('controller.test'), 'controller.test');
  assert.equal(certificate.checkIP('198.18.0.1'), '198.18.0.1');
  assert.equal(certificate.checkIP('fd00::1'), 'fd00::1');
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1']);
});

test('a bundle keeps the order of its certificates and drops repetitions', () => {
  const bundle = joinCertificates([root.rootPem, issuing.certificatePem, root.rootPem]);
  assert.deepEqual(splitCertificates(bundle), [root.rootPem, issuing.certificatePem]);
  assert.deepEqual(splitCertificates('no certificate'), []);
});
