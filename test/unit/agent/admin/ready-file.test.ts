import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { ReadyFile } from '../../../../agent/admin/ready-file.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { createLog } from '../../../../shared/log.js';

test('the file is there while the process is ready, and one of an earlier process counts for nothing', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-ready-'));
  const file = path.join(directory, 'ready');
  writeFileSync(file, '');
  try {
    let isReady = false;
    const log = createLog({ name: 'test', level: 'error' });
    using _ = new ReadyFile({ path: file, isReady: () => isReady, log });
    assert.equal(existsSync(file), false);
    for (const next of [true, false, true]) {
      isReady = next;
      await waitUntil(`ready: ${next}`, () => existsSync(file) === next || undefined);
    }
  } finally {
    assert.equal(existsSync(file), false, 'it goes with the process');
    rmSync(directory, { recursive: true });
  }
});

test('the file says when it was written and by which process, and is written again and again', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-ready-'));
  const file = path.join(directory, 'ready');
  const log = createLog({ name: 'test', level: 'error' });
  using _ = new ReadyFile({ path: file, isReady: () => true, log });
  const text = await waitUntil('the file is there', () => (existsSync(file) ? readFileSync(file, 'utf8') : undefined));
  const [at, pid, began] = text.split(' ').map(Number);
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  assert.ok(at !== undefined && at <= uptime && at > uptime - 30, `${text} at ${uptime}`);
  assert.equal(pid, process.pid);
  assert.equal(
    began,
    Number(
      readFileSync('/proc/self/stat', 'utf8')
        .replace(/^.*\) /, '')
        .split(' ')[19],
    ),
  );
  const { ino } = statSync(file);
  await waitUntil('it is another file', () => statSync(file).ino !== ino || undefined);
  rmSync(directory, { recursive: true });
});

test('a file that cannot be written is told once, and tried again', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'culvert-ready-'));
  const lines: string[] = [];
  const log = createLog({ name: 'test', level: 'error', stream: { write: (line) => void lines.push(line) } });
  const file = path.join(directory, 'later', 'ready');
  using _ = new ReadyFile({ path: file, isReady: () => true, log });
  await waitUntil('the problem is told', () => lines[0]);
  await new Promise((resolve) => setTimeout(resolve, 1200));
  assert.equal(lines.length, 1);
  rmSync(directory, { recursive: true });
});
