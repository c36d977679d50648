import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { changeKeys, exportCa, importCa, rotateCa } from '../../../controller/ca/ca-commands.js';
import { namesInControllerState } from '../../../controller/store/state-names.js';
import { startedController, temporaryDirectory } from '../../support/controller/controller-fixture.js';
import { joinedBus } from '../../support/controller/joined-agent.js';

const files = ['ca/root.pem', 'ca/issuing.pem', 'signing-key.json', 'nats/keys.json'];
/** What each of these files has in the clear. */
const keyText = /PRIVATE KEY|Seed/;

test('a controller with a passphrase keeps no key of the mesh in the clear, and is the same mesh as before', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  const [passphrase, next] = [path.join(directory.path, 'passphrase'), path.join(directory.path, 'next')];
  await writeFile(passphrase, 'a good passphrase\n');
  await writeFile(next, 'another passphrase\n');
  const areInTheClear = async (): Promise<boolean[]> =>
    Promise.all(files.map(async (name) => keyText.test(await readFile(path.join(stateDir, name), 'utf8'))));

  const caOf = async (keyPassphraseFile: string | null): Promise<string> => {
    await using controller = await startedController(stateDir, { changes: { keyPassphraseFile } });
    await using _ = await joinedBus(controller, 'host-a');
    return controller.caPem;
  };
  const before = await caOf(null);
  assert.deepEqual(await areInTheClear(), [true, true, true, true]);
  assert.equal(await caOf(passphrase), before);
  assert.deepEqual(await areInTheClear(), [false, false, false, false]);

  await assert.rejects(startedController(stateDir), { code: 'KEY_SEALED' });
  await assert.rejects(startedController(stateDir, { changes: { keyPassphraseFile: next } }), {
    code: 'KEY_PASSPHRASE',
  });
  const place = { stateDir, trustDomain: 'culvert.local', keyPassphraseFile: passphrase };
  const out = path.join(directory.path, 'ca.p12');
  await assert.rejects(exportCa({ ...place, keyPassphraseFile: null }, out, passphrase), { code: 'KEY_SEALED' });
  await exportCa(place, out, passphrase);
  await importCa(place, { file: out, passwordFile: passphrase, replaces: true, withoutRoot: true });
  await rotateCa(place, 'prepare');
  assert.ok(!keyText.test(await readFile(path.join(stateDir, 'ca/next-root.pem'), 'utf8')));

  assert.match(await changeKeys(place, next), /ca\/next-root.pem/);
  await assert.rejects(startedController(stateDir, { changes: { keyPassphraseFile: passphrase } }), {
    code: 'KEY_PASSPHRASE',
  });
  await using controller = await startedController(stateDir, { changes: { keyPassphraseFile: next } });
  assert.ok(controller.caPem.startsWith(before));
  await assert.rejects(changeKeys({ ...place, keyPassphraseFile: next }, null), { code: 'STATE_LOCKED' });
});

test('a change of the passphrase that broke off is noticed at the next start, and what a write left is removed', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  const [passphrase, next] = [path.join(directory.path, 'passphrase'), path.join(directory.path, 'next')];
  await writeFile(passphrase, 'a good passphrase\n');
  await writeFile(next, 'another passphrase\n');
  const start = (keyPassphraseFile: string) => startedController(stateDir, { changes: { keyPassphraseFile } });
  await (await start(passphrase))[Symbol.asyncDispose]();
  const place = { stateDir, trustDomain: 'culvert.local', keyPassphraseFile: passphrase };

  // The root is written last; the process was killed before.
  const root = await readFile(path.join(stateDir, 'ca/root.pem'));
  await changeKeys(place, next);
  await writeFile(path.join(stateDir, 'ca/root.pem'), root);
  await writeFile(path.join(stateDir, 'ca/root.pem.new-deadbeef'), '-----BEGIN PRIVATE KEY-----');
  for (const either of [passphrase, next]) {
    await assert.rejects(start(either), { code: 'KEY_PASSPHRASE', hint: /keys change again/ });
  }
  assert.ok(!existsSync(path.join(stateDir, 'ca/root.pem.new-deadbeef')));
  assert.match(await changeKeys(place, next), /ca\/root\.pem/);
  await (await start(next))[Symbol.asyncDispose]();

  const inside = path.join(stateDir, 'passphrase');
  await writeFile(inside, 'another passphrase\n');
  await assert.rejects(start(inside), { code: 'KEY_PASSPHRASE', message: /is in the state directory/ });
});

test('a mesh whose CA is missing gets no new one, and every name in the state directory is a known one', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  await (await startedController(stateDir))[Symbol.asyncDispose]();
  const names = await readdir(stateDir);
  const unknown = names.filter((name) => !namesInControllerState.names.some((own) => name.split('.new-')[0] === own));
  assert.deepEqual(unknown, []);
  await rm(path.join(stateDir, 'ca'), { recursive: true });
  await assert.rejects(startedController(stateDir), { code: 'CA_MISSING' });
  assert.ok(!existsSync(path.join(stateDir, 'ca/root.pem')));
});
