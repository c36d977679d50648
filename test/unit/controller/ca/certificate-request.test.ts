import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { test } from 'node:test';
import type { SpiffeId } from '../../../../shared/identity.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { parseCsr } from '../../../../controller/ca/x509/parsed-certificate-request.js';
import { x509 } from '../../../../controller/ca/x509/x509.js';

const identity = 'spiffe://mesh.test/ns/shop/sa/web' as SpiffeId;

test('a request asks for one critical URI and has no name', async () => {
  const { csrPem } = await createCsr({ identity });
  const read = new x509.Pkcs10CertificateRequest(csrPem);
  assert.equal(read.subject, '');
  const [extension, ...others] = read.extensions;
  assert.deepEqual(others, []);
  assert.ok(extension instanceof x509.SubjectAlternativeNameExtension);
  assert.equal(extension.critical, true);
  assert.deepEqual(extension.names.toJSON(), [{ type: 'url', value: identity }]);
});

// Around the lengths at which DER needs one octet more for the length of an element.
for (const length of [1, 60, 127, 128, 255, 256, 700]) {
  test(`a request with a name of ${length} characters is signed by the key that it carries`, async () => {
    const commonName = 'ü'.repeat(length);
    const { csrPem, privateKeyPem } = await createCsr({ commonName });
    const read = new x509.Pkcs10CertificateRequest(csrPem);
    assert.deepEqual(read.subjectName.getField('CN'), [commonName]);
    assert.deepEqual(read.extensions, []);
    const { publicKey } = await parseCsr(csrPem);
    const own = createPublicKey(createPrivateKey(privateKeyPem)).export({ type: 'spki', format: 'der' });
    assert.deepEqual(Buffer.from(publicKey.rawData), own);
  });
}
