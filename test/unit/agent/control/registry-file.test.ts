import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  RegistryFile,
  type RegistrySource,
  type StoredRegistry,
} from '../../../../agent/control/state/registry-file.js';
import { StateDirectory } from '../../../../agent/control/state/state-directory.js';
import { createLog } from '../../../../shared/log.js';

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
  return found.map(({ key, sealed }) => [key, Buffer.from(sealed).toString('hex')] as const);
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

test('an entry with a length below zero, in a file with the right checksum, is refused and not read without end', async () => {
  const path = join(newDirectory(), 'registry.state');
  const file = new RegistryFile({ path });
  await file.write({ entries: [{ key: 'o', sealed: Buffer.alloc(2) }], isComplete: true });
  for (const body of ['o -6\no -6\n', 'o 1e0\nx\n', 'o 0x1\nx\n', 'o \n\n', 'o\n\n']) {
    const sha256 = createHash('sha256').update('true true\n').update(body).digest('hex');
    const header = {
      format: 'culvert-registry',
      version: 1,
      isWhole: true,
      isComplete: true,
      bytes: body.length,
      sha256,
    };
    await writeFile(path, `${JSON.stringify(header)}\n${body}`, { mode: 0o600 });
    assert.equal((await file.read()).kind, 'corrupt', JSON.stringify(body));
  }
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

/** What a follower of the registry holds. */
class Source implements RegistrySource {
  readonly #entries: Map<string, Uint8Array>;
  readonly #unsaved = new Set<string>();
  isComplete: boolean;
  wholes = 0;

  constructor({ entries: all, isComplete }: StoredRegistry) {
    this.#entries = new Map(all.map(({ key, sealed }) => [key, sealed]));
    this.isComplete = isComplete;
  }

  set(key: string, sealed: Uint8Array | null): void {
    if (sealed === null) this.#entries.delete(key);
    else this.#entries.set(key, sealed);
    this.#unsaved.add(key);
  }

  get stored(): StoredRegistry {
    this.wholes += 1;
    return { entries: [...this.#entries].map(([key, sealed]) => ({ key, sealed })), isComplete: this.isComplete };
  }

  takeUnsaved(): ReadonlyMap<string, Uint8Array | null> {
    const unsaved = new Map([...this.#unsaved].map((key) => [key, this.#entries.get(key) ?? null]));
    this.#unsaved.clear();
    return unsaved;
  }
}

async function loaded(path: string): Promise<StoredRegistry> {
  const found = await new RegistryFile({ path }).read();
  return found.kind === 'loaded' ? found.value : assert.fail(found.kind);
}

/** A file with all entries, then one block with a change of `web` and of all that it gave before, then one with a removal. */
async function withChanges() {
  const path = join(newDirectory(), 'registry.state');
  const file = new RegistryFile({ path });
  const source = new Source({ entries, isComplete: false });
  await file.save(source);
  const afterFirst = (await readFile(path)).length;
  source.set('workload.shop.web', Buffer.from('other\n'));
  source.isComplete = true;
  await file.save(source);
  const afterSecond = (await readFile(path)).length;
  source.set('workload.shop.leer', null);
  await file.save(source);
  return { path, file, source, afterFirst, afterSecond };
}

test('what changed is appended, and comes back with the rest', async () => {
  const { path, file, source } = await withChanges();
  assert.equal(source.wholes, 1);
  const { entries: found, isComplete } = await loaded(path);
  assert.deepEqual(new Map(plain(found)), new Map(plain(source.stored.entries)));
  assert.equal(isComplete, true);
  const before = await readFile(path);
  await file.save(source);
  assert.deepEqual(await readFile(path), before, 'nothing changed, nothing is written');
});

test('a file that was cut or damaged in what was appended is believed up to there', async () => {
  const { path, afterFirst, afterSecond } = await withChanges();
  const whole = await readFile(path);
  const cases: readonly [Buffer, string][] = [
    [whole.subarray(0, afterSecond + 10), 'other\n'],
    [whole.subarray(0, -1), 'other\n'],
    [Buffer.concat([whole.subarray(0, afterSecond), Buffer.alloc(100)]), 'other\n'],
    [Buffer.concat([whole.subarray(0, afterSecond - 2), whole.subarray(afterSecond - 1)]), String(entries[0]?.sealed)],
    [whole.subarray(0, afterFirst), String(entries[0]?.sealed)],
  ];
  for (const [content, web] of cases) {
    await writeFile(path, content);
    const { entries: found, isComplete } = await loaded(path);
    assert.deepEqual([found.length, isComplete], [3, web === 'other\n']);
    assert.equal(String(found.find(({ key }) => key === 'workload.shop.web')?.sealed), web);
  }
});

test('what was appended is worth nothing without what there was', async () => {
  const { path, file, source, afterFirst } = await withChanges();
  const whole = await readFile(path);
  await rm(path);
  await mkdir(path);
  source.set('workload.shop.new', Buffer.from('1'));
  await assert.rejects(file.save(source), { code: 'STATE_WRITE' });
  await rmdir(path);
  await file.save(source);
  assert.equal((await loaded(path)).entries.length, 3, 'after a failure all is written');
  await rm(path);
  source.set('workload.shop.newer', Buffer.from('2'));
  await file.save(source);
  assert.equal((await loaded(path)).entries.length, 4, 'where the file went away, all is written at once');
  await writeFile(path, whole.subarray(afterFirst));
  assert.equal((await new RegistryFile({ path }).read()).kind, 'corrupt');
});

test('a file is written whole again when a quarter of it was appended', async () => {
  const path = join(newDirectory(), 'registry.state');
  const file = new RegistryFile({ path });
  const source = new Source({ entries: [{ key: 'a', sealed: Buffer.alloc(8 * 1024 * 1024) }], isComplete: true });
  for (let at = 0; at < 25; at++) {
    source.set('b', Buffer.alloc(256 * 1024, at));
    await Promise.all([file.save(source), file.save(source)]);
  }
  assert.deepEqual([source.wholes, (await loaded(path)).entries.length], [3, 2]);
  assert.ok((await readFile(path)).length < 11 * 1024 * 1024);
});

test('damage to the registry does not cost the rules, and a registry without rules counts for nothing', async () => {
  const path = newDirectory();
  const states = new StateDirectory({ path });
  await states.writeState({ sealedSnapshot: Buffer.from('rules'), certificates: [] });
  await writeFile(join(path, 'registry.state'), '');
  const found = (await states.readState(log)) ?? assert.fail('there are rules');
  assert.equal(Buffer.from(found.sealedSnapshot ?? []).toString(), 'rules');
  assert.deepEqual(found.registry, { entries: [], isComplete: false });

  await states.saveRegistry(new Source({ entries, isComplete: true }));
  await writeFile(join(path, 'state.json'), '');
  assert.equal(await states.readState(log), undefined);
  assert.equal((await readdir(path)).filter((name) => name.includes('.corrupt-')).length, 2);
});
