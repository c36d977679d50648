import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { exportCa, importCa, rotateCa } from '../../../../controller/ca/ca-commands.js';
import { MeshCa } from '../../../../controller/ca/mesh-ca.js';
import { createRootCa } from '../../../../controller/ca/x509/certificate-authority.js';
import { exportPkcs12 } from '../../../../controller/ca/x509/pkcs12.js';
import type { SpiffeId } from '../../../../shared/identity.js';
import { describeCertificate } from '../../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../../shared/pki/certificate-request.js';
import { splitCertificates } from '../../../../shared/pki/pem.js';
import { writePrivateFile } from '../../../../shared/private-file.js';
import { silentLog, temporaryDirectory } from '../../../support/controller/controller-fixture.js';
import { OpensslCas, type OpensslCa } from '../../../support/controller/openssl-ca.js';
import { nodeNamed } from '../../../support/routing/names.js';

const trustDomain = 'mesh.test';
const identity = `spiffe://${trustDomain}/ns/shop/sa/web` as SpiffeId;
const dayMs = 86_400_000;
const isCa = 'basicConstraints=critical,CA:true';
const mayCertify = 'keyUsage=critical,keyCertSign,cRLSign';

let cas: OpensslCas;
before(async () => {
  cas = await OpensslCas.create();
});
after(() => cas[Symbol.asyncDispose]());

function started(stateDir: string): Promise<MeshCa> {
  const ttls = { workloadTtlMs: dayMs, nodeTtlMs: dayMs, serverTtlMs: dayMs, backdateMs: 0 };
  return MeshCa.open({ settings: { stateDir, trustDomain, ...ttls }, log: silentLog, nowMs: Date.now });
}

/** Every file of the CA, with its content. */
async function filesOf(stateDir: string): Promise<Record<string, string>> {
  const names = await readdir(path.join(stateDir, 'ca'));
  const texts = await Promise.all(names.map((name) => readFile(path.join(stateDir, 'ca', name), 'utf8')));
  return Object.fromEntries(names.map((name, index) => [name, texts[index] ?? '']));
}

const usable: readonly [what: string, ca: OpensslCa, root?: OpensslCa][] = [
  ['a root with RSA 2048', { key: 'rsa2048' }],
  ['a root with RSA 4096 and SHA-512', { key: 'rsa4096', digest: 'sha512' }],
  ['a root on P-384', { key: 'p384', digest: 'sha384' }],
  [
    'a root whose key identifier is of its own making',
    { key: 'p256', extensions: [isCa, mayCertify, 'subjectKeyIdentifier=01:02:03:04:05'] },
  ],
  ['a root without a key identifier', { key: 'rsa2048', extensions: [isCa, mayCertify, 'subjectKeyIdentifier=none'] }],
  [
    'an issuing CA with RSA under RSA',
    { key: 'rsa3072', extensions: ['basicConstraints=critical,CA:true,pathlen:0', mayCertify] },
    { key: 'rsa4096' },
  ],
  ['an issuing CA on P-256 under P-384', { key: 'p256' }, { key: 'p384', digest: 'sha384' }],
  ['an issuing CA on P-256 under Ed25519', { key: 'p256' }, { key: 'ed25519' }],
  [
    'a CA that may certify only this trust domain',
    { key: 'p256', extensions: [isCa, mayCertify, `nameConstraints=critical,permitted;URI:${trustDomain}`] },
  ],
];

for (const [what, ca, root] of usable) {
  test(`${what} signs what openssl accepts for each use`, async () => {
    await using directory = await temporaryDirectory();
    const stateDir = path.join(directory.path, 'state');
    const under = root === undefined ? {} : { under: await cas.make(root) };
    const file = await cas.export(await cas.make({ ...ca, ...under }));
    await importCa({ stateDir, trustDomain }, { file, passwordFile: cas.passwordFile, replaces: false });
    const mesh = await started(stateDir);
    const { csrPem } = await createCsr({ identity });
    const workload = await mesh.signWorkload({ csrPem, identity });
    assert.equal(describeCertificate(workload.chainPem).subject, '', 'the identity is its only name');
    await cas.verify(workload.chainPem, mesh.rootsPem, 'sslserver');
    await cas.verify(workload.chainPem, mesh.rootsPem, 'sslclient');
    const node = await mesh.signNode({ csrPem, node: nodeNamed('host-a') });
    await cas.verify(node.chainPem, mesh.rootsPem, 'sslclient');
  });
}

const unusable: readonly [what: string, code: string, why: RegExp, ca: OpensslCa, root?: OpensslCa][] = [
  ['RSA 1024', 'KEY_INVALID', /RSA key of 1024 bits/, { key: 'rsa1024' }],
  ['RSA-PSS', 'KEY_INVALID', /type rsa-pss/, { key: 'rsaPss' }],
  ['P-521', 'KEY_INVALID', /curve secp521r1/, { key: 'p521' }],
  ['Ed25519', 'KEY_INVALID', /type ed25519/, { key: 'ed25519' }],
  [
    'a root that may have no CA under it',
    'CA_UNUSABLE',
    /path length/i,
    { key: 'p256', extensions: ['basicConstraints=critical,CA:true,pathlen:0', mayCertify] },
  ],
  [
    'a CA that may not sign certificates',
    'CA_INVALID',
    /not a CA certificate/,
    { key: 'p256', extensions: [isCa, 'keyUsage=critical,cRLSign'] },
  ],
  [
    'a CA for servers only',
    'CA_UNUSABLE',
    /workload is refused/,
    { key: 'p256', extensions: [isCa, mayCertify, 'extendedKeyUsage=serverAuth'] },
  ],
  [
    'a CA for names of another domain',
    'CA_UNUSABLE',
    /permitted subtree/i,
    { key: 'p256', extensions: [isCa, mayCertify, 'nameConstraints=critical,permitted;URI:elsewhere.test'] },
  ],
  [
    'a CA that may not certify the controller',
    'CA_UNUSABLE',
    /server of the controller/,
    { key: 'p256', extensions: [isCa, mayCertify, 'nameConstraints=critical,excluded;IP:127.0.0.0/255.0.0.0'] },
  ],
  [
    'a critical extension that no verifier knows',
    'CA_UNUSABLE',
    /critical extension/i,
    { key: 'p256', extensions: [isCa, mayCertify, '1.2.3.4.5=critical,ASN1:NULL'] },
  ],
  ['an issuing CA under RSA 1024', 'CA_UNUSABLE', /1024 bits/, { key: 'p256' }, { key: 'rsa1024' }],
  ['an issuing CA signed with SHA-1', 'CA_UNUSABLE', /too weak/i, { key: 'p256', digest: 'sha1' }, { key: 'rsa2048' }],
];

for (const [what, code, message, ca, root] of unusable) {
  test(`${what} is refused, and the CA that is there stays as it is`, async () => {
    await using directory = await temporaryDirectory();
    const place = { stateDir: directory.path, trustDomain };
    await started(place.stateDir);
    const before = await filesOf(place.stateDir);
    const under = root === undefined ? {} : { under: await cas.make(root) };
    const file = await cas.export(await cas.make({ ...ca, ...under }));
    for (const isForced of [false, true]) {
      const source = { file, passwordFile: cas.passwordFile, replaces: true, isForced };
      await assert.rejects(importCa(place, source), { code, message });
    }
    assert.deepEqual(await filesOf(place.stateDir), before);
  });
}

test('an expired root is refused, and a leaf ends when the first certificate above it does', async () => {
  await using directory = await temporaryDirectory();
  const place = { stateDir: path.join(directory.path, 'state'), trustDomain };
  const file = path.join(directory.path, 'ca.p12');
  const expired = await createRootCa({ trustDomain, now: Date.now() - 10 * dayMs, validForMs: dayMs });
  await writePrivateFile(file, exportPkcs12({ authority: expired, password: 'secret' }));
  const source = { passwordFile: cas.passwordFile, replaces: false };
  await assert.rejects(importCa(place, { file, ...source }), { code: 'CA_EXPIRED' });

  const root = await cas.make({ key: 'rsa2048', days: 2 });
  const issuing = await cas.export(await cas.make({ key: 'p256', under: root, days: 30 }));
  await importCa(place, { file: issuing, ...source });
  const mesh = await started(place.stateDir);
  assert.ok(mesh.issuingNotAfterMs < Date.now() + 3 * dayMs);
});

test('a CA with RSA can be exported, prepared and activated like any other', async () => {
  await using directory = await temporaryDirectory();
  const place = { stateDir: path.join(directory.path, 'state'), trustDomain };
  const file = await cas.export(await cas.make({ key: 'rsa2048' }));
  await importCa(place, { file, passwordFile: cas.passwordFile, replaces: false });
  const { rootHash } = await started(place.stateDir);
  const out = path.join(directory.path, 'out.p12');
  await exportCa(place, out, cas.passwordFile);
  await rotateCa(place, 'prepare');
  await rotateCa(place, 'activate');
  await rotateCa(place, 'prepare');
  const back = { file: out, passwordFile: cas.passwordFile, replaces: true, isForced: true };
  await importCa(place, back);
  const mesh = await started(place.stateDir);
  assert.equal(mesh.rootHash, rootHash);
  assert.ok(splitCertificates(mesh.rootsPem).length >= 2);
});
