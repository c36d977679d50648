import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { changeVault, sealKeys } from '../../../../controller/keys/key-files.js';
import { KeyVault } from '../../../../controller/keys/key-vault.js';
import { createLog } from '../../../../shared/log.js';

/** A state directory that has no passphrase in it. */
const elsewhere = { stateDir: '/nonexistent' };

describe('keys on disk', () => {
  const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
  let directory: string;
  const at = (name: string): string => path.join(directory, name);

  beforeEach(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'keys-'));
    await writeFile(at('one'), 'a good passphrase\nsecond line\n');
    await writeFile(at('two'), 'another passphrase\n');
  });
  afterEach(() => rm(directory, { recursive: true }));

  it('are encrypted under a passphrase, each time with another result, and are for one purpose', async () => {
    const vault = await KeyVault.open(at('one'), elsewhere);
    const file = at('key');
    await vault.write(file, 'ca/root', 'a secret key');
    const first = await readFile(file, 'utf8');
    assert.ok(!first.includes('secret') && !Buffer.from(first, 'base64').includes('secret'));
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    await vault.write(file, 'ca/root', 'a secret key');
    assert.notEqual(await readFile(file, 'utf8'), first);
    // As after a restart.
    const next = await KeyVault.open(at('one'), elsewhere);
    assert.equal(await next.read(file, 'ca/root'), 'a secret key');
    await assert.rejects(next.read(file, 'ca/issuing'), { code: 'KEY_PASSPHRASE' });
    assert.equal(await next.read(at('none'), 'ca/root'), undefined);
  });

  it('are refused with another passphrase, without one, and when any byte is changed or missing', async () => {
    const vault = await KeyVault.open(at('one'), elsewhere);
    const file = at('key');
    await vault.write(file, 'ca/root', 'a secret key');
    await assert.rejects((await KeyVault.open(at('two'), elsewhere)).read(file, 'ca/root'), { code: 'KEY_PASSPHRASE' });
    await assert.rejects(KeyVault.plain.read(file, 'ca/root'), { code: 'KEY_SEALED', hint: /--key-passphrase-file/ });
    const [head = '', body = ''] = (await readFile(file, 'utf8')).split('\n');
    const bytes = Buffer.from(body, 'base64');
    const changedAt = (index: number): Buffer =>
      Buffer.from(bytes.map((byte, other) => (other === index ? byte ^ 1 : byte)));
    // A salt costs a derivation for each of its bytes, so one is enough.
    const places = [...bytes.keys()].filter((index) => index === 0 || index >= 16);
    for (const damaged of [...places.map(changedAt), bytes.subarray(0, 20), bytes.subarray(0, -1), Buffer.alloc(0)]) {
      await writeFile(file, `${head}\n${damaged.toString('base64')}\n`);
      await assert.rejects(vault.read(file, 'ca/root'), { code: 'KEY_PASSPHRASE' });
    }
  });

  it('take their passphrase from a credential of systemd too, and refuse one that is missing or short', async () => {
    process.env['CREDENTIALS_DIRECTORY'] = directory;
    try {
      assert.ok((await KeyVault.open('credential:one', elsewhere)).isSealing);
      for (const source of ['credential:none', 'credential:../one', 'credential:..', at('nothing')]) {
        await assert.rejects(KeyVault.open(source, elsewhere), { code: 'KEY_PASSPHRASE' }, source);
      }
      await writeFile(at('short'), 'too short\n');
      await assert.rejects(KeyVault.open(at('short'), elsewhere), { code: 'KEY_PASSPHRASE', message: /fewer than 12/ });
    } finally {
      delete process.env['CREDENTIALS_DIRECTORY'];
    }
    await assert.rejects(KeyVault.open('credential:one', elsewhere), {
      code: 'KEY_PASSPHRASE',
      message: /CREDENTIALS_DIRECTORY/,
    });
    assert.equal((await KeyVault.open(null, elsewhere)).isSealing, false);
  });

  it('that are in the clear are encrypted at the start, and get another passphrase also after a crash between two', async () => {
    const one = await KeyVault.open(at('one'), elsewhere);
    const two = await KeyVault.open(at('two'), elsewhere);
    await mkdir(at('ca'));
    await writeFile(at('ca/root.pem'), 'root');
    await writeFile(at('signing-key.json'), 'signing');
    await sealKeys({ stateDir: directory, vault: KeyVault.plain, log });
    assert.equal(await readFile(at('ca/root.pem'), 'utf8'), 'root');
    await sealKeys({ stateDir: directory, vault: one, log });
    assert.equal(await one.read(at('ca/root.pem'), 'ca/root'), 'root');

    await two.write(at('ca/root.pem'), 'ca/root', 'root');
    const names = await changeVault({ stateDir: directory, from: one, to: two });
    assert.deepEqual(names, ['signing-key.json', 'ca/root.pem']);
    assert.equal(await two.read(at('signing-key.json'), 'signing-key'), 'signing');
    await assert.rejects(changeVault({ stateDir: directory, from: one, to: KeyVault.plain }), {
      code: 'KEY_PASSPHRASE',
    });
    await changeVault({ stateDir: directory, from: two, to: KeyVault.plain });
    assert.equal(await readFile(at('ca/root.pem'), 'utf8'), 'root');
  });
});
