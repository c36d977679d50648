import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { ChecksummedFile } from '../../../../agent/control/state/checksummed-file.js';

const schema = z.object({ revision: z.number(), text: z.string() });
type Value = z.infer<typeof schema>;

let directory = '';
let count = 0;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'culvert-state-'));
});
after(async () => {
  await rm(directory, { recursive: true });
});

function newFile(): ChecksummedFile<Value> {
  count++;
  return new ChecksummedFile({
    path: join(directory, `case-${count}`, 'state.json'),
    parse: (value) => schema.parse(value),
  });
}

test('a written value comes back, from a file that only its owner can read', async () => {
  const file = newFile();
  assert.deepEqual(await file.read(), { kind: 'absent' });
  await file.write({ revision: 7, text: 'grün\n' });
  assert.deepEqual(await file.read(), { kind: 'loaded', value: { revision: 7, text: 'grün\n' } });
  assert.equal((await stat(file.path)).mode & 0o777, 0o600);
  assert.equal((await stat(join(file.path, '..'))).mode & 0o777, 0o700);
});

const damages: readonly [string, (content: string) => string][] = [
  ['is cut short', (content) => content.slice(0, -10)],
  ['has one changed letter', (content) => content.replace('"text":"a"', '"text":"b"')],
  ['is empty', () => ''],
  ['is full of zero bytes', (content) => '\0'.repeat(content.length)],
  ['has lost its header', (content) => content.slice(content.indexOf('\n') + 1)],
  ['is of another version', (content) => content.replace('"version":1', '"version":9')],
  ['has something behind its end', (content) => `${content}{}\n`],
];
for (const [damage, apply] of damages) {
  test(`a file that ${damage} is moved aside and not believed`, async () => {
    const file = newFile();
    await file.write({ revision: 1, text: 'a' });
    await writeFile(file.path, apply(await readFile(file.path, 'utf8')));
    const stored = await file.read();
    assert.equal(stored.kind, 'corrupt');
    assert.match(stored.movedTo, /state\.json\.corrupt-\d{4}-/);
    assert.deepEqual(await file.read(), { kind: 'absent' });
    assert.equal((await readdir(join(file.path, '..'))).length, 1, 'the damaged file is kept');
  });
}

test('a value of another shape is not believed although its checksum is right', async () => {
  const file = newFile();
  await new ChecksummedFile<unknown>({ path: file.path, parse: (value) => value }).write({ revision: 'seven' });
  assert.equal((await file.read()).kind, 'corrupt');
});

test('writes that come faster than the disk end with the last one, and leave no other file', async () => {
  const file = newFile();
  const writes = Array.from({ length: 50 }, (_, revision) => file.write({ revision, text: 'x'.repeat(10_000) }));
  await Promise.all(writes);
  const stored = await file.read();
  assert.equal(stored.kind === 'loaded' ? stored.value.revision : -1, 49);
  assert.deepEqual(await readdir(join(file.path, '..')), ['state.json']);
});

test('a write that fails keeps the old file and says what to do', async () => {
  const file = newFile();
  await file.write({ revision: 1, text: 'old' });
  const broken = new ChecksummedFile<Value>({
    path: join(file.path, 'below-a-file'),
    parse: (value) => schema.parse(value),
  });
  await assert.rejects(broken.write({ revision: 2, text: 'new' }), {
    code: 'STATE_WRITE',
    hint: /^name another directory with --state-dir, or move what is in its place away$/,
  });
  assert.deepEqual(await file.read(), { kind: 'loaded', value: { revision: 1, text: 'old' } });
});
