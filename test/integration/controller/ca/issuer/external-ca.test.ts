import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { rotateCa } from '../../../../../controller/ca/ca-commands.js';
import { CaFiles } from '../../../../../controller/ca/ca-files.js';
import { takeUpOf, type OpenedCa } from '../../../../../controller/ca/open-mesh-ca.js';
import { ConfirmationFile } from '../../../../../controller/ca/rotation-confirmations.js';
import { ServerCertificate } from '../../../../../controller/ca/server-certificate.js';
import type { ControllerSettings } from '../../../../../controller/config/settings.js';
import { endsAtRoot, readCertificateChain } from '../../../../../shared/pki/certificate-chain.js';
import { certificateHash } from '../../../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../../../shared/pki/certificate-request.js';
import { splitCertificates } from '../../../../../shared/pki/pem.js';
import { problemOfIssued } from '../../../../../shared/pki/issued-certificate.js';
import { readFileSync } from 'node:fs';
import { temporaryDirectory } from '../../../../support/controller/controller-fixture.js';
import {
  hostA,
  kubernetesSettings,
  openCa,
  settingsWith,
  signWeb,
  trustDomain,
  vaultSettings,
  web,
} from '../../../../support/issuer/external-mesh.js';
import { FakeKubernetes } from '../../../../support/issuer/fake-kubernetes.js';
import { FakeVault } from '../../../../support/issuer/fake-vault.js';
import type { IssuerServer } from '../../../../support/issuer/issuer-server.js';
import type { SigningCa } from '../../../../support/issuer/signing-ca.js';

type Elsewhere = AsyncDisposable & { readonly server: IssuerServer; readonly ca: SigningCa };

const issuers: readonly [
  name: string,
  start: (stateDir: string) => Promise<{ issuer: Elsewhere; settings: ControllerSettings }>,
][] = [
  [
    'Vault',
    async (stateDir) => {
      const issuer = await FakeVault.start(trustDomain);
      return { issuer, settings: await vaultSettings(issuer, stateDir) };
    },
  ],
  [
    'cert-manager',
    async (stateDir) => {
      const issuer = await FakeKubernetes.start(trustDomain);
      return { issuer, settings: await kubernetesSettings(issuer, stateDir) };
    },
  ],
];

async function stateIn(t: TestContext): Promise<string> {
  const directory = await temporaryDirectory();
  t.after(() => directory[Symbol.asyncDispose]());
  return path.join(directory.path, 'state');
}

function isTrusted(chainPem: string, rootsPem: string): boolean {
  const chain = readCertificateChain(chainPem);
  return chain !== undefined && endsAtRoot(chain, rootsPem);
}

function usagesOf(chainPem: string): string[] {
  return (new X509Certificate(chainPem).keyUsage ?? []).map((oid) => (oid.endsWith('.1') ? 'server' : 'client'));
}

function keysIn(stateDir: string, names: readonly string[]): string[] {
  return names.filter((name) => readFileSync(path.join(stateDir, 'ca', name), 'utf8').includes('PRIVATE KEY'));
}

for (const [name, start] of issuers) {
  test(`${name} signs for workloads, nodes and servers, and no key of a CA is on this host`, async (t) => {
    const stateDir = await stateIn(t);
    const { issuer, settings } = await start(stateDir);
    await using _issuer = issuer;
    await using opened = await openCa(settings);
    const { ca } = opened;
    const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity: web });
    const chainPem = await signWeb(opened, csrPem);
    assert.equal(problemOfIssued({ chainPem, keyPem, spiffeId: web, rootsPem: ca.rootsPem }), null);
    assert.deepEqual(usagesOf(chainPem), ['server', 'client']);
    assert.equal(ca.rootHash, certificateHash(issuer.ca.root.rootPem));
    assert.equal(ca.issuingNotAfterMs, issuer.ca.issuing.notAfterMs);

    const nodeName = `spiffe://${trustDomain}/culvert/node/${hostA}`;
    const node = await createCsr({ identity: nodeName });
    const proof = await ca.signNode({ csrPem: node.csrPem, node: hostA });
    assert.equal(new X509Certificate(proof.chainPem).subjectAltName, `URI:${nodeName}`);
    assert.deepEqual(usagesOf(proof.chainPem), ['client']);

    const store = { files: new CaFiles({ stateDir }), name: 'server-api' } as const;
    const certificate = await ServerCertificate.issue({ ca, names: ['localhost', '::1'], store, nowMs: Date.now });
    const leaf = new X509Certificate(certificate.current.chainPem);
    assert.ok(leaf.checkHost('localhost') !== undefined && leaf.checkIP('::1') !== undefined);
    assert.deepEqual(usagesOf(certificate.current.chainPem), ['server']);
    assert.deepEqual(ca.external?.problem, null);
    const names = await readdir(path.join(stateDir, 'ca'));
    assert.deepEqual(names.sort(), ['external.json', 'server-api.pem']);
    assert.deepEqual(keysIn(stateDir, names), ['server-api.pem']);
  });

  test(`a controller starts while ${name} is down, with what it knew and its old certificates, and sees it come back`, async (t) => {
    const stateDir = await stateIn(t);
    const { issuer, settings } = await start(stateDir);
    await using _issuer = issuer;
    const store = { files: new CaFiles({ stateDir }), name: 'server-api' } as const;
    let before: { rootsPem: string; chainPem: string };
    {
      await using opened = await openCa(settings);
      const { current } = await ServerCertificate.issue({
        ca: opened.ca,
        names: ['localhost'],
        store,
        nowMs: Date.now,
      });
      before = { rootsPem: opened.ca.rootsPem, chainPem: current.chainPem };
    }
    issuer.server.misbehaves = 'reset';
    await using opened = await openCa(settings);
    const { ca } = opened;
    assert.equal(ca.rootsPem, before.rootsPem);
    const kept = await ServerCertificate.issue({ ca, names: ['localhost'], store, nowMs: Date.now });
    assert.equal(kept.current.chainPem, before.chainPem);
    await assert.rejects(signWeb(opened), { code: 'ISSUER_UNREACHABLE', hint: /check that it runs/ });
    assert.match(ca.external?.problem ?? '', /cannot reach/);
    const asked = issuer.server.heard.length;
    await assert.rejects(signWeb(opened), { code: 'ISSUER_UNREACHABLE' });
    assert.equal(issuer.server.heard.length, asked, 'it is not asked again at once');

    issuer.server.misbehaves = null;
    for (let round = 0; ca.external?.problem !== null && round < 200; round++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      await ca.refresh();
    }
    assert.equal(ca.external?.problem, null, 'a look at it ends the alarm, although no agent asks');
    assert.ok(isTrusted(await signWeb(opened), before.rootsPem));
  });
}

test('a new CA of the issuer is taken under a root that counts, and refused under another one until the operator names it', async (t) => {
  const stateDir = await stateIn(t);
  const { issuer: vault, settings } = await (issuers[0]?.[1] ?? assert.fail())(stateDir);
  await using _vault = vault;
  const oldRoot = vault.ca.root.rootPem;
  const rootsFile = await vault.server.file('roots.pem', oldRoot);
  await using opened = await openCa({ ...settings, issuerRootsFile: rootsFile });
  const { ca } = opened;

  await vault.ca.change({ isNewRoot: false });
  assert.ok(isTrusted(await signWeb(opened), oldRoot));
  assert.equal(certificateHash(ca.trust.issuingPem), certificateHash(vault.ca.issuing.certificatePem));

  await vault.ca.change({ isNewRoot: true });
  await assert.rejects(signWeb(opened), { code: 'ISSUER_UNFIT', message: /no chain leads/ });
  await ca.refresh();
  assert.match(ca.external?.problem ?? '', /no chain leads|a root that this mesh does not trust/);

  await vault.server.file('roots.pem', oldRoot + vault.ca.root.rootPem);
  await ca.refresh();
  assert.equal(ca.rootHash, certificateHash(oldRoot), 'the old one is in use');
  assert.equal(ca.nextRootHash, certificateHash(vault.ca.root.rootPem));
  const store = { files: new CaFiles({ stateDir }), name: 'server-api' } as const;
  const under = await signWeb(opened);
  assert.ok(isTrusted(under, vault.ca.root.rootPem));
  assert.equal(ca.rootHash, certificateHash(vault.ca.root.rootPem));
  assert.deepEqual(
    ca.trust.previousRootsPem.map((pem) => certificateHash(pem)),
    [certificateHash(oldRoot)],
  );
  assert.equal(ca.nextRootHash, null);
  const server = await ServerCertificate.issue({ ca, names: ['localhost'], store, nowMs: Date.now });
  assert.ok(isTrusted(server.current.chainPem, vault.ca.root.rootPem));

  await vault.server.file('roots.pem', vault.ca.root.rootPem);
  await ca.refresh();
  assert.equal(splitCertificates(ca.rootsPem).length, 1);

  await vault.server.file('roots.pem', 'no certificate');
  await ca.refresh();
  assert.match(ca.external?.problem ?? '', /roots of the issuer/);
  assert.equal(splitCertificates(ca.rootsPem).length, 1, 'what is known stays in force');
});

test('a server certificate is renewed as soon as another root is in use', async (t) => {
  const stateDir = await stateIn(t);
  const { issuer: vault, settings } = await (issuers[0]?.[1] ?? assert.fail())(stateDir);
  await using _vault = vault;
  const oldRoot = vault.ca.root.rootPem;
  const rootsFile = await vault.server.file('roots.pem', oldRoot);
  await using opened = await openCa({ ...settings, issuerRootsFile: rootsFile });
  const { ca } = opened;
  const store = { files: new CaFiles({ stateDir }), name: 'server-api' } as const;
  const server = await ServerCertificate.issue({ ca, names: ['localhost'], store, nowMs: Date.now });
  assert.equal(await server.renewIfDue(), false);
  await vault.ca.change({ isNewRoot: true });
  await vault.server.file('roots.pem', oldRoot + vault.ca.root.rootPem);
  await ca.refresh();
  await signWeb(opened);
  assert.equal(await server.renewIfDue(), true);
  assert.ok(isTrusted(server.current.chainPem, vault.ca.root.rootPem));
});

test('a mesh moves from its own CA to an issuer and back, and every step waits for the agents', async (t) => {
  const stateDir = await stateIn(t);
  const { issuer: vault, settings } = await (issuers[0]?.[1] ?? assert.fail())(stateDir);
  await using _vault = vault;
  const own = settingsWith(stateDir, {});
  const rootOf = async (at: ControllerSettings): Promise<OpenedCa['ca']> => {
    await using opened = await openCa(at);
    return opened.ca;
  };
  const before = await rootOf(own);
  const confirm = (trusts: string[], proves: string[]): Promise<void> =>
    new ConfirmationFile({ stateDir }).write([{ node: 'host-a', trust: { trusts, proves }, lastSeenMs: 1 }]);
  const takeUp = takeUpOf(settings);

  assert.equal((await rootOf(settings)).external, null, 'its own CA signs until it is moved');
  assert.match(await rotateCa(settings, 'prepare', { takeUp }), /its root is prepared/);
  const prepared = await rootOf(settings);
  const next = certificateHash(vault.ca.root.rootPem);
  assert.deepEqual([prepared.rootHash, prepared.nextRootHash], [before.rootHash, next]);
  await confirm([before.rootHash], [before.rootHash]);
  await assert.rejects(rotateCa(settings, 'activate', { takeUp }), { code: 'CA_UNCONFIRMED' });
  await confirm([before.rootHash, next], [before.rootHash]);
  assert.match(await rotateCa(settings, 'activate', { takeUp }), /keys of the old CA were removed/);
  const moved = await rootOf(settings);
  assert.deepEqual([moved.rootHash, moved.external?.kind], [next, 'vault']);
  assert.equal(splitCertificates(moved.rootsPem).length, 2, 'the old root is trusted until the next step');
  assert.deepEqual(keysIn(stateDir, await readdir(path.join(stateDir, 'ca'))), []);
  await assert.rejects(openCa(own), { code: 'CA_EXTERNAL' });
  await assert.rejects(rotateCa(settings, 'finish', { takeUp }), { code: 'CA_UNCONFIRMED' });
  await confirm([before.rootHash, next], [next]);
  await rotateCa(settings, 'finish', { takeUp });
  assert.equal(splitCertificates((await rootOf(settings)).rootsPem).length, 1);
  await assert.rejects(rotateCa(settings, 'prepare', { takeUp }), { code: 'CA_ROTATION', hint: /issuer-roots-file/ });

  await rotateCa(own, 'prepare');
  const back = (await rootOf(settings)).nextRootHash ?? '';
  await confirm([next, back], [next]);
  await rotateCa(own, 'activate');
  const again = await rootOf(own);
  assert.deepEqual([again.rootHash, again.external], [back, null]);
  assert.ok(
    again.rootsPem.includes(vault.ca.root.rootPem.trim()),
    'the root of the issuer is trusted until the next step',
  );
  await confirm([next, back], [back]);
  await rotateCa(own, 'finish');
  assert.equal(splitCertificates((await rootOf(own)).rootsPem).length, 1);
});

test('a first start does not guess a root, and a mesh whose record is lost does not take another one', async (t) => {
  const stateDir = await stateIn(t);
  await using cluster = await FakeKubernetes.start(trustDomain);
  const settings = await kubernetesSettings(cluster, stateDir);
  cluster.givesRoot = false;
  await assert.rejects(openCa(settings), { code: 'ISSUER_UNFIT', hint: /issuer-roots-file/ });
  const issuerRootsFile = await cluster.server.file('roots.pem', cluster.ca.root.rootPem);
  {
    await using opened = await openCa({ ...settings, issuerRootsFile });
    await signWeb(opened);
  }
  const files = new CaFiles({ stateDir });
  await files.remove('external');
  await writeFile(path.join(stateDir, 'signing-key.json'), '{}');
  await assert.rejects(openCa(settings), { code: 'CA_MISSING' });
  await using opened = await openCa({ ...settings, issuerRootsFile });
  assert.ok(isTrusted(await signWeb(opened), cluster.ca.root.rootPem));
});
