import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ChecksummedFile } from '../../agent/control/checksummed-file.js';
import { RegistryFile } from '../../agent/control/registry-file.js';
import { StateDirectory } from '../../agent/control/state-directory.js';
import { createLog } from '../../shared/log.js';

let directory = '';
let count = 0;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'culvert-registry-'));
});
after(async () => {
  await rm(directory, { recursive: true });
});

const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
const newDirectory = (): string => join(directory, `case-${++count}`);

/** With all that could be taken for a frame. */
const entries = [
  { key: 'workload.shop.web', sealed: Buffer.from('{"payload":"1",\n"signature":"2"}\n') },
  { key: 'workload.shop.leer', sealed: Buffer.alloc(0) },
  { key: 'list', sealed: Buffer.from('grün 5\nworkload.shop.db 3\n\0\xff', 'utf8') },
];

function plain(found: readonly { readonly key: string; readonly sealed: Uint8Array }[]) {
  return found.map(({ key, sealed }) => [key, Buffer.from(sealed).toString('hex')]);
}

test('a registry comes back as it was written, whatever its bytes are', async () => {
  const file = new RegistryFile({ path: join(newDirectory(), 'registry.state') });
  assert.deepEqual(await file.read(), { kind: 'absent' });
  for (const isComplete of [true, false]) {
    await file.write({ entries, isComplete });
    const stored = await file.read();
    assert.ok(stored.kind === 'loaded');
    assert.deepEqual(plain(stored.value.entries), plain(entries));
    assert.equal(stored.value.isComplete, isComplete);
  }
  await file.write({ entries: [], isComplete: true });
  assert.deepEqual(await file.read(), { kind: 'loaded', value: { entries: [], isComplete: true } });
});

const damages: readonly [string, (content: Buffer) => Buffer][] = [
  ['is cut short', (content) => content.subarray(0, -10)],
  [
    'has one changed bit',
    (content) => Buffer.from(content.map((byte, at) => (at === content.length - 3 ? byte ^ 1 : byte))),
  ],
  ['says that it is whole', (content) => Buffer.from(content.toString('latin1').replace('false', 'true'), 'latin1')],
  ['is empty', () => Buffer.alloc(0)],
  ['is full of zero bytes', (content) => Buffer.alloc(content.length)],
  ['has something behind its end', (content) => Buffer.concat([content, Buffer.from('a 0\n\n')])],
];
for (const [damage, apply] of damages) {
  test(`a registry file that ${damage} is moved aside and not believed`, async () => {
    const path = join(newDirectory(), 'registry.state');
    const file = new RegistryFile({ path });
    await file.write({ entries, isComplete: false });
    await writeFile(path, apply(await readFile(path)));
    assert.equal((await file.read()).kind, 'corrupt');
    assert.deepEqual(await file.read(), { kind: 'absent' });
  });
}

test('what an older agent left in its state file is taken over, and a registry file counts more than it', async () => {
  const path = newDirectory();
  const [first] = entries;
  const old = {
    sealedSnapshot: null,
    registry: [{ key: first?.key, sealed: first?.sealed.toString('base64') }],
    isRegistryComplete: true,
    certificates: [],
  };
  await new ChecksummedFile<unknown>({ path: join(path, 'state.json'), parse: (value) => value }).write(old);
  const states = new StateDirectory({ path });
  const found = (await states.readState(log)) ?? assert.fail('there is a state');
  assert.deepEqual(plain(found.registry.entries), plain(entries.slice(0, 1)));
  assert.deepEqual([found.registry.isComplete, found.isRegistryOnDisk], [true, false]);

  await states.writeRegistry({ entries, isComplete: true });
  const moved = (await states.readState(log)) ?? assert.fail('there is a state');
  assert.deepEqual(plain(moved.registry.entries), plain(entries));
  assert.ok(moved.isRegistryOnDisk);
});

test('damage to the registry does not cost the rules, and a registry without rules counts for nothing', async () => {
  const path = newDirectory();
  const states = new StateDirectory({ path });
  await states.writeState({ sealedSnapshot: Buffer.from('rules'), certificates: [] });
  await writeFile(join(path, 'registry.state'), '');
  const found = (await states.readState(log)) ?? assert.fail('there are rules');
  assert.equal(Buffer.from(found.sealedSnapshot ?? []).toString(), 'rules');
  assert.deepEqual(found.registry, { entries: [], isComplete: false });

  await states.writeRegistry({ entries, isComplete: true });
  await writeFile(join(path, 'state.json'), '');
  assert.equal(await states.readState(log), undefined);
  assert.equal((await readdir(path)).filter((name) => name.includes('.corrupt-')).length, 2);
});
