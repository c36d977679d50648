import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { SpiffeId } from '../../../../shared/identity.js';
import { createIssuingCa, createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { problemOfIssued } from '../../../../shared/pki/issued-certificate.js';
import { splitCertificates } from '../../../../shared/pki/pem.js';
import { issueWorkloadCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';

const trustDomain = 'mesh.test';
const identity = 'spiffe://mesh.test/ns/shop/sa/web' as SpiffeId;
const root = await createRootCa({ trustDomain });
const issuing = await createIssuingCa({ root, trustDomain });
const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity });
const { chainPem } = await issueWorkloadCertificate({ issuer: issuing, csrPem, identity, ttlMs: 60_000 });
const good = { chainPem, keyPem, spiffeId: identity, rootsPem: root.rootPem };

test('a certificate as it was asked for, under one of the roots, fits', async () => {
  const next = await createRootCa({ trustDomain });
  assert.equal(problemOfIssued(good), null);
  assert.equal(problemOfIssued({ ...good, rootsPem: next.rootPem + root.rootPem }), null);
});

test('another identity, another key, other roots and a broken chain are named', async () => {
  const otherKey = (await createCsr({ identity })).privateKeyPem;
  // Same names as the real ones, other keys.
  const twin = await createRootCa({ trustDomain });
  const twinIssuing = await createIssuingCa({ root: twin, trustDomain });
  const [leaf = '', issuer = ''] = splitCertificates(chainPem);
  const roots = /do not verify it/;
  const cases: [what: string, change: Partial<typeof good>, problem: RegExp][] = [
    ['another identity', { spiffeId: 'spiffe://mesh.test/ns/shop/sa/db' as SpiffeId }, /a certificate for .*sa\/web/],
    ['another key', { keyPem: otherKey }, /another key/],
    ['a root of the same name', { rootsPem: twin.rootPem }, roots],
    ['no roots', { rootsPem: '' }, roots],
    ['an issuer that is missing', { chainPem: leaf }, roots],
    ['an issuer of the same name', { chainPem: leaf + twinIssuing.certificatePem }, roots],
    ['an issuer that is not above it', { chainPem: leaf + issuer + twinIssuing.certificatePem }, roots],
    ['the issuing CA in place of a root', { rootsPem: issuing.certificatePem }, roots],
    ['no certificate', { chainPem: 'nothing' }, /cannot be read/],
    ['a key that is none', { keyPem: 'nothing' }, /cannot be read/],
  ];
  for (const [what, change, problem] of cases) {
    assert.match(problemOfIssued({ ...good, ...change }) ?? 'it fits', problem, what);
  }
});

test('a leaf does not vouch for another leaf', async () => {
  const signer = await createCsr({ identity });
  const signerLeaf = await issueWorkloadCertificate({
    issuer: issuing,
    csrPem: signer.csrPem,
    identity,
    ttlMs: 60_000,
  });
  const [signerPem = ''] = splitCertificates(signerLeaf.chainPem);
  const rogue = { ...issuing, certificatePem: signerPem, privateKeyPem: signer.privateKeyPem };
  const issued = await issueWorkloadCertificate({
    issuer: { ...rogue, chainPem: signerPem + issuing.chainPem },
    csrPem,
    identity,
    ttlMs: 60_000,
  });
  assert.match(problemOfIssued({ ...good, chainPem: issued.chainPem }) ?? 'it fits', /do not verify it/);
});
