import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { chown, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import { exportCa, importCa, rotateCa } from '../../../controller/ca/ca-commands.js';
import { CaFiles } from '../../../controller/ca/ca-files.js';
import { MeshCa } from '../../../controller/ca/mesh-ca.js';
import { ConfirmationFile, type TrustConfirmation } from '../../../controller/ca/rotation-confirmations.js';
import { proveAuthority } from '../../../controller/ca/prove-authority.js';
import { createIssuingCa, createRootCa } from '../../../controller/ca/x509/certificate-authority.js';
import { lockState } from '../../../controller/store/state-lock.js';
import { endsAtRoot, readCertificateChain } from '../../../shared/pki/certificate-chain.js';
import { certificateHash } from '../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { splitCertificates } from '../../../shared/pki/pem.js';
import { nodeNamed } from '../../support/routing/names.js';

const trustDomain = 'mesh.test';
const dayMs = 86_400_000;

type Place = {
  readonly stateDir: string;
  readonly trustDomain: string;
  readonly scratch: string;
  readonly password: string;
};

async function inPlace(run: (place: Place) => Promise<void>): Promise<void> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'culvert-ca-'));
  try {
    const password = path.join(scratch, 'password');
    await writeFile(password, 'correct horse\nsecond line\n');
    await run({ stateDir: path.join(scratch, 'state'), trustDomain, scratch, password });
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** The CA as a controller that starts now takes it up. */
function started({ stateDir }: Pick<Place, 'stateDir'>, nowMs: () => number = Date.now): Promise<MeshCa> {
  const ttlMs = 7 * dayMs;
  const ttls = { workloadTtlMs: ttlMs, nodeTtlMs: ttlMs, serverTtlMs: ttlMs, backdateMs: 0 };
  return MeshCa.open({ settings: { stateDir, trustDomain, ...ttls }, log: pino({ level: 'silent' }), nowMs });
}

async function nodeChain(ca: MeshCa): Promise<string> {
  const { csrPem } = await createCsr({ commonName: 'host-a' });
  return (await ca.signNode({ csrPem, node: nodeNamed('host-a') })).chainPem;
}

function isTrusted(chainPem: string, rootsPem: string): boolean {
  const chain = readCertificateChain(chainPem);
  return chain !== undefined && endsAtRoot(chain, rootsPem);
}

test('a root is replaced in three steps, and agents that renewed after each step stay trusted throughout', async () => {
  await inPlace(async (place) => {
    const before = await started(place);
    const old = await nodeChain(before);

    assert.match(await rotateCa(place, 'prepare'), /prepared a new root/);
    const prepared = await started(place);
    assert.equal(prepared.rootHash, before.rootHash, 'the old root still signs');
    assert.equal(splitCertificates(prepared.rootsPem).length, 2);

    await rotateCa(place, 'activate');
    const activated = await started(place);
    assert.notEqual(activated.rootHash, before.rootHash);
    const fresh = await nodeChain(activated);
    // Both ways, with the roots that each side has by now.
    assert.ok(isTrusted(old, activated.rootsPem) && isTrusted(fresh, prepared.rootsPem));
    assert.equal(isTrusted(fresh, before.rootsPem), false, 'hence the first step');

    await rotateCa(place, 'finish');
    const finished = await started(place);
    assert.equal(splitCertificates(finished.rootsPem).length, 1);
    assert.ok(isTrusted(fresh, finished.rootsPem) && !isTrusted(old, finished.rootsPem));
    const files = await readdir(path.join(place.stateDir, 'ca'));
    assert.deepEqual(files.sort(), ['issuing.pem', 'root.pem']);
    for (const file of files) assert.equal((await stat(path.join(place.stateDir, 'ca', file))).mode & 0o777, 0o600);
  });
});

const nodeCount = 2;

/** What the controller would have recorded of its nodes, by the hashes of roots. */
async function record(
  place: Place,
  trust: TrustConfirmation['trust'],
  lastSeenMs: number | null = 1000,
): Promise<void> {
  const nodes = Array.from({ length: nodeCount }, (_, index) => ({ node: `host-${index}`, trust, lastSeenMs }));
  await new ConfirmationFile(place).write(nodes);
}

test('a step is refused with the list of the nodes that have not confirmed the one before, and nothing changes', async () => {
  await inPlace(async (place) => {
    const { rootHash: old } = await started(place);
    await rotateCa(place, 'prepare');
    const prepared = await started(place);
    const next = certificateHash(prepared.trust.nextRootPem ?? '');
    for (const [trust, why] of [
      [null, /host-0: has sent no heartbeat since it joined[\s\S]*host-1: /],
      [{ trusts: [old], proves: [old] }, /2 nodes have not confirmed[\s\S]*host-1: does not trust the new root/],
    ] as const) {
      await record(place, trust, trust === null ? null : 1000);
      await assert.rejects(rotateCa(place, 'activate'), { code: 'CA_UNCONFIRMED', message: why, hint: /--force/ });
    }
    assert.equal((await started(place)).rootHash, old);

    await record(place, { trusts: [old, next], proves: [old] });
    await rotateCa(place, 'activate');
    await assert.rejects(rotateCa(place, 'finish'), { code: 'CA_UNCONFIRMED', message: /under another root/ });
    await record(place, { trusts: [old, next], proves: [next, old] });
    await assert.rejects(rotateCa(place, 'finish'), { code: 'CA_UNCONFIRMED' });
    await record(place, { trusts: [old, next], proves: [next] });
    await rotateCa(place, 'finish');
    assert.equal(splitCertificates((await started(place)).rootsPem).length, 1);
  });
});

test('with --force a step is done at once, and nodes that are not known are no reason to go on without it', async () => {
  await inPlace(async (place) => {
    await started(place);
    await rotateCa(place, 'prepare');
    await writeFile(path.join(place.stateDir, 'tokens.json'), '[]');
    await assert.rejects(rotateCa(place, 'activate'), { code: 'CA_UNCONFIRMED', message: /which nodes there are/ });
    await rotateCa(place, 'activate', { isForced: true });
    await rotateCa(place, 'finish', { isForced: true });
    assert.equal(splitCertificates((await started(place)).rootsPem).length, 1);
  });
});

test('a CA that replaces the one of a mesh with nodes is only prepared until they trust its root', async () => {
  await inPlace(async (place) => {
    const own = await started(place);
    const other = { ...place, stateDir: path.join(place.scratch, 'other') };
    await started(other);
    const file = path.join(place.scratch, 'other.p12');
    await exportCa(other, file, place.password);
    await record(place, { trusts: [own.rootHash], proves: [own.rootHash] });
    const source = { file, passwordFile: place.password, replaces: true };
    assert.match(await importCa(place, source), /^prepared the root CA .* ca rotate activate$/);
    const prepared = await started(place);
    assert.equal(prepared.rootHash, own.rootHash);
    const next = certificateHash(prepared.trust.nextRootPem ?? '');
    await assert.rejects(rotateCa(place, 'activate'), { code: 'CA_UNCONFIRMED' });
    await record(place, { trusts: [own.rootHash, next], proves: [own.rootHash] });
    await rotateCa(place, 'activate');
    assert.equal((await started(place)).rootHash, next);
  });
});

test('a step out of turn, a controller that runs and a directory of another user are refused', async () => {
  await inPlace(async (place) => {
    await started(place);
    await assert.rejects(rotateCa(place, 'activate'), { code: 'CA_ROTATION', hint: /rotate prepare first/ });
    await rotateCa(place, 'prepare');
    await assert.rejects(rotateCa(place, 'prepare'), { code: 'CA_ROTATION', hint: /rotate activate first/ });
    await assert.rejects(rotateCa(place, 'finish'), { code: 'CA_ROTATION', hint: /rotate activate first/ });
    const lock = await lockState(place.stateDir);
    await assert.rejects(rotateCa(place, 'activate'), { code: 'STATE_LOCKED', hint: /^stop the controller first/ });
    await lock.release();
    await chown(place.stateDir, 65_534, 65_534);
    await assert.rejects(rotateCa(place, 'activate'), { code: 'WRONG_USER', hint: /sudo -u '#65534'/ });
    // That user may have placed a link where the command writes what it does.
    const elsewhere = path.join(place.scratch, 'elsewhere');
    await mkdir(elsewhere);
    await rm(path.join(place.stateDir, 'audit'), { recursive: true, force: true });
    await symlink(elsewhere, path.join(place.stateDir, 'audit'));
    const out = path.join(place.scratch, 'ca.p12');
    await assert.rejects(exportCa(place, out, place.password), { code: 'WRONG_USER' });
    assert.deepEqual([(await stat(elsewhere)).uid, await readdir(elsewhere)], [process.getuid?.(), []]);
  });
});

test('an exported CA signs for the same mesh elsewhere, and never overwrites anything', async () => {
  await inPlace(async (place) => {
    const original = await started(place);
    const file = path.join(place.scratch, 'mesh.p12');
    assert.match(await exportCa(place, file, place.password), new RegExp(original.rootHash));
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    await assert.rejects(exportCa(place, file, place.password), { code: 'FILE_WRITE', hint: /name a new file/ });

    const elsewhere = { ...place, stateDir: path.join(place.scratch, 'other') };
    const wrong = path.join(place.scratch, 'wrong');
    await writeFile(wrong, 'wrong\n');
    const bad = { file, passwordFile: wrong, replaces: false };
    await assert.rejects(importCa(elsewhere, bad), { code: 'PKCS12_PASSWORD' });
    const good = { file, passwordFile: place.password, replaces: false };
    assert.match(await importCa(elsewhere, good), /imported the root CA/);
    const imported = await started(elsewhere);
    assert.equal(imported.rootHash, original.rootHash);
    assert.ok(isTrusted(await nodeChain(imported), original.rootsPem));
  });
});

test('a state directory that is not there is neither exported from, nor rotated, nor made', async () => {
  await inPlace(async (place) => {
    const typo = { ...place, stateDir: path.join(place.scratch, 'typo') };
    const out = path.join(place.scratch, 'ca.p12');
    await assert.rejects(exportCa(typo, out, place.password), { code: 'CA_MISSING', hint: /--state-dir/ });
    for (const step of ['prepare', 'activate', 'finish'] as const) {
      for (const isForced of [false, true]) {
        await assert.rejects(rotateCa(typo, step, { isForced }), { code: 'CA_MISSING', message: /typo/ });
      }
    }
    const source = { file: out, passwordFile: place.password, replaces: true };
    await assert.rejects(importCa(typo, source), { code: 'CA_MISSING' });
    assert.ok(!(await readdir(place.scratch)).includes('typo'));
  });
});

test('a CA that is there is replaced only when that is said, and stays trusted', async () => {
  await inPlace(async (place) => {
    const own = await started(place);
    const old = await nodeChain(own);
    const other = { ...place, stateDir: path.join(place.scratch, 'other') };
    await started(other);
    const file = path.join(place.scratch, 'other.p12');
    await exportCa(other, file, place.password);
    const source = { file, passwordFile: place.password };
    await assert.rejects(importCa(place, { ...source, replaces: false }), { code: 'CA_EXISTS', hint: /--replace/ });
    await importCa(place, { ...source, replaces: true });
    const replaced = await started(place);
    assert.notEqual(replaced.rootHash, own.rootHash);
    assert.ok(isTrusted(old, replaced.rootsPem));
  });
});

test('the CA that signs is renewed under the same root before its leaves would be cut short', async () => {
  await inPlace(async (place) => {
    let nowMs = Date.now();
    await mkdir(place.stateDir);
    const ca = await started(place, () => nowMs);
    const { rootHash, issuingNotAfterMs } = ca;
    const first = await nodeChain(ca);
    nowMs += 200 * dayMs;
    await ca.refresh();
    assert.equal(ca.issuingNotAfterMs, issuingNotAfterMs, 'not yet');
    nowMs += 50 * dayMs;
    await ca.refresh();
    assert.ok(ca.issuingNotAfterMs > issuingNotAfterMs + 200 * dayMs);
    assert.equal(ca.rootHash, rootHash);
    const chain = await nodeChain(ca);
    assert.ok(isTrusted(chain, ca.rootsPem) && isTrusted(first, ca.rootsPem));
    const [leaf = ''] = splitCertificates(chain);
    assert.ok(Date.parse(new X509Certificate(leaf).validTo) >= nowMs + 7 * dayMs - 1000);
  });
});

test('the key of the root is kept off line, and makes the next issuing CA without coming back', async () => {
  await inPlace(async (place) => {
    const own = await started(place);
    const file = path.join(place.scratch, 'root.p12');
    const filesOf = async (): Promise<string[]> => (await readdir(path.join(place.stateDir, 'ca'))).sort();
    await rotateCa(place, 'prepare');
    await assert.rejects(exportCa(place, file, place.password, { removesRoot: true }), { code: 'CA_ROTATION' });
    await rotateCa(place, 'activate');
    await rotateCa(place, 'finish');
    const rotated = await started(place);
    assert.notEqual(rotated.rootHash, own.rootHash);

    const lock = await lockState(place.stateDir);
    await assert.rejects(exportCa(place, file, place.password, { removesRoot: true }), { code: 'STATE_LOCKED' });
    await lock.release();
    assert.match(await exportCa(place, file, place.password, { removesRoot: true }), /removed the key of the root/);
    assert.deepEqual(await filesOf(), ['issuing.pem']);
    const without = await started(place);
    assert.equal(without.rootHash, rotated.rootHash);
    const old = await nodeChain(without);
    assert.ok(isTrusted(old, rotated.rootsPem), 'it signs as before');
    const again = path.join(place.scratch, 'again.p12');
    await assert.rejects(exportCa(place, again, place.password, { removesRoot: true }), { code: 'CA_MISSING' });

    await record(place, { trusts: [rotated.rootHash], proves: [rotated.rootHash] });
    const source = { file, passwordFile: place.password, replaces: true, withoutRoot: true };
    assert.match(await importCa(place, source), /imported the issuing CA/);
    const renewed = await started(place);
    assert.deepEqual([renewed.rootHash, splitCertificates(renewed.rootsPem).length], [rotated.rootHash, 1]);
    assert.notEqual(renewed.trust.issuingPem, without.trust.issuingPem);
    assert.ok(isTrusted(await nodeChain(renewed), rotated.rootsPem) && isTrusted(old, renewed.rootsPem));
    const [key] =
      /-----BEGIN PRIVATE KEY[^]+?END PRIVATE KEY-----/.exec(
        await readFile(path.join(place.stateDir, 'ca/issuing.pem'), 'utf8'),
      ) ?? [];
    assert.ok(key !== undefined && (await filesOf()).every((name) => name !== 'root.pem'));
  });
});

test('root and issuing CA can sign for identities of this trust domain only, and no further CA', async () => {
  await inPlace(async (place) => {
    await started(place);
    const { rootPem, issuingPem } = (await started(place)).trust;
    const root = await new CaFiles(place).readAuthority('root');
    const issuing = await new CaFiles(place).readAuthority('issuing');
    assert.ok(root !== undefined && issuing !== undefined);
    for (const pem of [rootPem, issuingPem]) assert.ok(new X509Certificate(pem).ca);
    const serverNames = ['controller.example'];
    await proveAuthority({ issuer: issuing, trustDomain, serverNames, nowMs: Date.now });
    for (const issuer of [issuing, root]) {
      await assert.rejects(proveAuthority({ issuer, trustDomain: 'other.test', serverNames, nowMs: Date.now }), {
        code: 'CA_UNUSABLE',
        message: /permitted subtree violation/,
      });
    }
    // Of other days, because a CA with its issuer's own name does not count (RFC 5280, section 4.2.1.9).
    const nowMs = Date.now();
    const oldRoot = await createRootCa({ trustDomain, now: nowMs - 2 * dayMs });
    const parent = await createIssuingCa({ root: oldRoot, trustDomain, now: nowMs - dayMs });
    const below = await createIssuingCa({ root: parent, trustDomain, now: nowMs });
    await assert.rejects(proveAuthority({ issuer: below, trustDomain, serverNames, nowMs: () => nowMs }), {
      code: 'CA_UNUSABLE',
      message: /path length/,
    });
  });
});
