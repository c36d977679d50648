import assert from 'node:assert/strict';
import { mkdtemp, open as openFile, readdir, readFile, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pino } from 'pino';
import {
  applyCommit,
  emptyState,
  type Commit,
  type CommittedState,
} from '../../../../controller/release/committed-state.js';
import { encodeRecord, playJournal } from '../../../../controller/store/journal-record.js';
import { Journal } from '../../../../controller/store/journal.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';

const log = pino({ level: 'silent' });

function commit(revision: number, names: readonly string[], deletes: readonly string[] = []): Commit {
  const createdAt = new Date(revision * 1000).toISOString();
  return {
    revision,
    createdAt,
    createdBy: 'test',
    puts: names.map((name) => ({
      key: `Segment.-.${name}`,
      resource: {
        apiVersion: 'culvert.dev/v1',
        kind: 'Segment',
        metadata: { name },
        spec: { members: [{ namespace: name }] },
      } as unknown as Resource,
      revision,
      appliedAt: createdAt,
      appliedBy: 'test',
    })),
    deletes: deletes.map((name) => `Segment.-.${name}`),
  };
}

async function inDirectory(run: (file: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-journal-'));
  try {
    await run(path.join(directory, 'journal.log'));
  } finally {
    await rm(directory, { recursive: true });
  }
}

const limits = { maxRevisions: 5, maxBytes: 1024 * 1024 };
const open = (file: string) => Journal.open({ path: file, log, nowMs: () => 42, limits });

/** Writes commits as the store does, and returns the state after the last. */
async function append(file: string, commits: readonly Commit[]): Promise<CommittedState> {
  const { journal, state } = await open(file);
  let current = state ?? emptyState;
  for (const one of commits) {
    current = applyCommit(current, one);
    await journal.append(one);
  }
  await journal.close();
  return current;
}

test('what was appended is there after the journal is opened again, deletions included', async () => {
  await inDirectory(async (file) => {
    const written = await append(file, [commit(1, []), commit(2, ['a', 'b']), commit(3, ['c'], ['a'])]);
    const { journal, state, movedAside } = await open(file);
    await journal.close();
    assert.deepEqual(state, written);
    assert.deepEqual([...(state?.resources.keys() ?? [])], ['Segment.-.b', 'Segment.-.c']);
    assert.equal(movedAside, null);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
  });
});

test('a new journal holds no state', async () => {
  await inDirectory(async (file) => {
    const { journal, state } = await open(file);
    await journal.close();
    assert.equal(state, undefined);
  });
});

test('a last record that was cut anywhere is dropped, and the journal goes on', async () => {
  await inDirectory(async (file) => {
    await append(file, [commit(1, []), commit(2, ['a'])]);
    const whole = await readFile(file);
    const last = encodeRecord({ kind: 'commit', ...commit(3, ['b']) });
    for (const length of [1, 40, 65, last.length - 2, last.length - 1]) {
      await writeFile(file, Buffer.concat([whole, last.subarray(0, length)]));
      const after = await append(file, [commit(3, ['c'])]);
      assert.deepEqual([...after.resources.keys()], ['Segment.-.a', 'Segment.-.c'], `cut after ${length} bytes`);
      const { journal, state } = await open(file);
      await journal.close();
      assert.deepEqual(state, after);
    }
  });
});

test('damage before the last record moves the whole journal aside', async () => {
  await inDirectory(async (file) => {
    await append(file, [commit(1, []), commit(2, ['a']), commit(3, ['b'])]);
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace('"revision":2', '"revision":9'));
    const { journal, state, movedAside } = await open(file);
    await journal.close();
    assert.equal(state, undefined);
    assert.equal(movedAside, `${file}.corrupt-42`);
    assert.deepEqual((await readdir(path.dirname(file))).sort(), ['journal.log', 'journal.log.corrupt-42']);
  });
});

test('records that do not follow one another are damage', () => {
  const checkpoint = encodeRecord({ kind: 'checkpoint', revision: 5, createdAt: '', createdBy: '', resources: [] });
  const later = encodeRecord({ kind: 'commit', ...commit(6, []) });
  const same = encodeRecord({ kind: 'commit', ...commit(5, []) });
  assert.equal(playJournal(Buffer.concat([checkpoint, later])).ok, true);
  for (const records of [
    [later, checkpoint],
    [checkpoint, same, later],
    [checkpoint, checkpoint],
  ]) {
    assert.equal(playJournal(Buffer.concat(records)).ok, false);
  }
});

test('a journal that grows long is replaced by the history that is kept, and the same state', async () => {
  await inDirectory(async (file) => {
    const commits = Array.from({ length: 1010 }, (_, index) => commit(index + 1, [`n${index % 7}`]));
    const written = await append(file, commits);
    const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
    assert.ok(lines.length < 20, `${lines.length} lines`);
    const { journal, state } = await open(file);
    await journal.close();
    assert.deepEqual(state, written);
    assert.deepEqual(
      journal.history.records.map((record) => record.commit.revision),
      [1006, 1007, 1008, 1009, 1010],
    );
    assert.equal(journal.history.base.revision, 1005);
  });
});

test('the history of the kept revisions is the same before and after the journal is opened again', async () => {
  await inDirectory(async (file) => {
    const commits = [commit(1, ['a']), { ...commit(2, ['b'], ['a']), message: 'CHG-1' }, commit(3, ['b', 'c'])];
    await append(file, commits);
    const { journal } = await open(file);
    await journal.close();
    const { history } = journal;
    assert.deepEqual(
      history.records.map((record) => record.commit),
      commits,
    );
    assert.deepEqual(
      history.records.map(({ changes }) => changes.map(({ name, change }) => `${name} ${change}`)),
      [['a created'], ['a deleted', 'b created'], ['c created']],
    );
    assert.deepEqual([...(history.stateAt(1)?.resources.keys() ?? [])], ['Segment.-.a']);
    assert.deepEqual([...(history.stateAt(2)?.resources.keys() ?? [])], ['Segment.-.b']);
  });
});

test('a write that failed and could not be taken back is left behind by the next one, without a restart', async (t) => {
  await inDirectory(async (file) => {
    await append(file, [commit(1, ['a'])]);
    const { journal } = await open(file);
    const probe = await openFile(file);
    const handles = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const full = (): Promise<never> => Promise.reject(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
    // The record gets to the disk, the word of it does not, and the disk fails the repair as well.
    const datasync = t.mock.method(handles, 'datasync', full);
    const truncate = t.mock.method(handles, 'truncate', full);
    await assert.rejects(journal.append(commit(2, ['lost'])), { code: 'JOURNAL_WRITE', hint: /free space/ });
    datasync.mock.restore();
    truncate.mock.restore();
    await journal.append(commit(2, ['kept']));
    await journal.append(commit(3, ['more']));
    await journal.close();
    const { state, movedAside } = await open(file).then(async (opened) => {
      await opened.journal.close();
      return opened;
    });
    assert.equal(movedAside, null);
    assert.deepEqual([...(state?.resources.keys() ?? [])], ['Segment.-.a', 'Segment.-.kept', 'Segment.-.more']);
  });
});

test('a damaged record costs its own change only: the others are history again when the state is known', async () => {
  await inDirectory(async (file) => {
    const opened = await open(file);
    await opened.journal.checkpoint({ ...emptyState, revision: 1 });
    await opened.journal.close();
    const whole = await append(file, [commit(2, ['a']), commit(3, ['b']), commit(4, ['c'], ['a'])]);
    const text = await readFile(file, 'utf8');
    for (const [damaged, kept] of [
      [3, [2, 3, 4]],
      [4, [2, 3, 4]],
      [2, [2, 3, 4]],
    ] as const) {
      await writeFile(file, `${text.replace(`"revision":${damaged},"createdAt"`, '"revision":9,"createdAt"')}x\ny\n`);
      const { journal, state, movedAside } = await open(file);
      assert.equal(state, undefined);
      assert.notEqual(movedAside, null);
      await journal.checkpoint(whole);
      assert.deepEqual(
        journal.history.records.map(({ commit: { revision } }) => revision),
        kept,
      );
      assert.deepEqual(journal.history.head.resources, whole.resources);
      assert.match(
        journal.history.records.find(({ commit: one }) => one.revision === damaged)?.commit.message ?? '',
        /was damaged/,
      );
      assert.ok(journal.history.stateAt(damaged) !== undefined);
      await journal.close();
      const again = await open(file);
      assert.deepEqual(again.state?.resources, whole.resources);
      assert.equal(again.journal.history.records.length, 3);
      await again.journal.close();
    }
  });
});
