import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CertificateIssuer, ServerRequest } from '../../../../controller/ca/certificate-issuer.js';
import { ServerCertificate } from '../../../../controller/ca/server-certificate.js';
import { createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { issueServerCertificate } from '../../../../controller/ca/x509/mesh-certificates.js';

const hourMs = 3_600_000;
const startMs = Date.now();
const issuer = await createRootCa({ trustDomain: 'mesh.test', now: startMs - hourMs });

test('a server certificate is renewed at half of its life, and when the clock was ahead when it was made', async () => {
  let nowMs = startMs;
  const ca = {
    signServer: (request: ServerRequest) =>
      issueServerCertificate({ issuer, ...request, ttlMs: 24 * hourMs, now: nowMs }),
    trust: { rootPem: issuer.rootPem },
    external: null,
  } as CertificateIssuer;
  const certificate = await ServerCertificate.issue({ ca, names: ['localhost'], nowMs: () => nowMs });
  const steps: [what: string, atMs: number, isRenewed: boolean][] = [
    ['a moment later', startMs + hourMs, false],
    ['a little back, as clocks go', startMs - 30_000, false],
    ['after half of its life', startMs + 13 * hourMs, true],
    ['set back by more than clocks go', startMs, true],
    ['and then it stays', startMs + hourMs, false],
  ];
  for (const [what, atMs, isRenewed] of steps) {
    nowMs = atMs;
    const before = certificate.current.chainPem;
    assert.equal(await certificate.renewIfDue(), isRenewed, what);
    assert.equal(certificate.current.chainPem !== before, isRenewed, what);
  }
});
