import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { parseCsr } from '../../../controller/ca/x509/parsed-certificate-request.js';
import { parseCertificate } from '../../../controller/ca/x509/x509.js';
import { certificateHash, describeCertificate } from '../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { problemOfNodeProof } from '../../../shared/pki/node-proof.js';
import { decodePem, encodePem, splitCertificates } from '../../../shared/pki/pem.js';
import { spiffeIdOf } from '../../../shared/pki/spiffe-id-of-certificate.js';
import { TestCa, clientIdentity } from '../../support/tunnel/tunnel-certificates.js';
import { once, outcomeOf, outcomeOfAsync, withoutValues, type FuzzTarget } from '../target.js';

const ca = once(() => TestCa.create());
const words = [
  ['\x30\x80', '\x30\x84\xff\xff\xff\xff', '\x86\x20spiffe://lab.test/ns/shop/sa/front', '\x06\x03\x55\x1d\x11'],
  ['\x06\x03\x55\x1d\x13', '\x30\x03\x01\x01\xff', '\x82\x04lab.', '\x87\x04\x0a\0\0\x01', '\x03\x02\x07\x80'],
].flat();

export const certificateTarget: FuzzTarget = {
  name: 'certificates',
  reads: 'certificates that a peer shows, in DER',
  seeds: async () => {
    const { certificates } = await (await ca()).issue(clientIdentity);
    const [leaf = ''] = splitCertificates(certificates[0]?.chainPem ?? '');
    const root = (await ca()).root.certificatePem;
    return [leaf, root].map((pem) => Buffer.from(decodePem(pem) ?? []));
  },
  words,
  check: async (input) => {
    const pem = encodePem('CERTIFICATE', input);
    const rootsPem = (await ca()).root.certificatePem;
    const identity = spiffeIdOf(input);
    const parsed = parsedBy(() => new X509Certificate(input));
    if (identity !== null && parsed !== null) {
      // Another reader finds the same name, and no other one of its kind.
      assert.deepEqual(urisOf(parsed), [identity]);
      assert.equal(parsed.ca, false);
    }
    const bytes = Buffer.from('a request');
    const proof = { chainPem: pem, rootsPem, spiffeId: clientIdentity, nowMs: Date.now() };
    const problem = problemOfNodeProof({ bytes, signature: bytes, ...proof });
    assert.notEqual(problem, null, 'nothing was signed');
    return [
      `${identity !== null} ${parsed !== null} ${withoutValues(problem ?? '')}`,
      ...[describeCertificate, certificateHash].map((read) => outcomeOf(() => read(input))),
      outcomeOf(() => parseCertificate(input)),
    ].join();
  },
};

export const certificateRequestTarget: FuzzTarget = {
  name: 'requests-csr',
  reads: 'certificate requests of nodes (PKCS #10), in DER',
  seeds: async () => [Buffer.from(decodePem((await createCsr({ identity: clientIdentity })).csrPem) ?? [])],
  words,
  check: (input) => outcomeOfAsync(() => parseCsr(encodePem('CERTIFICATE REQUEST', input))),
};

function parsedBy(parse: () => X509Certificate): X509Certificate | null {
  try {
    return parse();
  } catch {
    return null;
  }
}

function urisOf({ subjectAltName = '' }: X509Certificate): string[] {
  return subjectAltName.split(', ').flatMap((name) => (name.startsWith('URI:') ? [name.slice(4)] : []));
}
