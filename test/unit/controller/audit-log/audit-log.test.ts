import assert from 'node:assert/strict';
import { appendFile, open, readdir, readFile, writeFile, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { digest, encodeEntry, decodeLine } from '../../../../controller/audit-log/audit-entry.js';
import { AuditLog } from '../../../../controller/audit-log/audit-log.js';
import { LineLimit } from '../../../../controller/audit-log/line-limit.js';
import { ChainVerifier, type ChainVerdict } from '../../../../controller/audit-log/verify-chain.js';
import { someAuditFacts as facts } from '../../../support/controller/audit-facts.js';
import { silentLog, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

const day = 86_400_000;

type Opened = { readonly nowMs?: () => number; readonly maxBytes?: number };

function opened(directory: string, { nowMs = () => 0, maxBytes = 64 * 1024 * 1024 }: Opened = {}): Promise<AuditLog> {
  return AuditLog.open({ directory, limits: { retentionMs: day, maxBytes }, log: silentLog, nowMs });
}

async function linesOf(auditLog: AuditLog): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of auditLog.lines()) lines.push(line);
  return lines;
}

function verdictOf(lines: readonly string[]): ChainVerdict {
  const verifier = new ChainVerifier();
  for (const line of lines) verifier.add(line);
  return verifier.verdict;
}

async function written(count: number): Promise<string[]> {
  await using directory = await temporaryDirectory();
  const auditLog = await opened(directory.path);
  await Promise.all(Array.from({ length: count }, (_, index) => auditLog.append({ ...facts, target: `t${index}` })));
  const lines = await linesOf(auditLog);
  await auditLog.close();
  return lines;
}

describe('the chain of the audit log', () => {
  it('is whole as it is written, also by several at a time, and goes on after a restart', async () => {
    await using directory = await temporaryDirectory();
    const first = await opened(directory.path);
    await Promise.all(Array.from({ length: 20 }, () => first.append(facts)));
    await first.close();
    const second = await opened(directory.path);
    await second.append(facts);
    const { lines, broken, head } = verdictOf(await linesOf(second));
    assert.deepEqual([lines, broken, head], [21, null, second.head]);
    await second.close();
  });

  const attacks: readonly (readonly [
    what: string,
    change: (lines: string[]) => void,
    line: number,
    problem: RegExp,
  ])[] = [
    ['a changed line', (lines) => lines.splice(4, 1, (lines[4] ?? '').replace('alice', 'bobby')), 5, /it was changed/],
    ['a removed line', (lines) => lines.splice(4, 1), 5, /line 5 is missing before it/],
    ['a line that is no JSON', (lines) => lines.splice(4, 1, 'x'), 5, /is not a line/],
    ['the first lines gone', (lines) => lines.splice(0, 3), 1, /lines 1 to 3 before it are missing/],
    [
      'two lines that changed places',
      (lines) => lines.splice(4, 2, lines[5] ?? '', lines[4] ?? ''),
      5,
      /line 5 is missing/,
    ],
    ['a line written twice', (lines) => lines.splice(4, 0, lines[4] ?? ''), 6, /line 6 is missing|does not follow/],
    [
      'a changed line with a right hash',
      (lines) => {
        const { entry } = decodeLine(lines[4] ?? '');
        assert.ok(entry !== null);
        lines.splice(4, 1, encodeEntry({ ...entry, user: 'mallory' }).text);
      },
      6,
      /does not follow line 5 as that is now/,
    ],
  ];
  for (const [what, change, line, problem] of attacks) {
    it(`shows ${what}`, async () => {
      const lines = await written(10);
      change(lines);
      const { broken } = verdictOf(lines);
      assert.equal(broken?.line, line, JSON.stringify(broken));
      assert.match(broken.problem, problem);
    });
  }

  it('shows that its end was cut off, when an earlier end is known', async () => {
    const lines = await written(10);
    const expected = verdictOf(lines).head;
    const verify = (given: readonly string[]): ChainVerdict => {
      const verifier = new ChainVerifier({ expected });
      for (const line of given) verifier.add(line);
      return verifier.verdict;
    };
    assert.equal(verify(lines).broken, null);
    assert.match(verify(lines.slice(0, 7)).broken?.problem ?? '', /line 10 is no longer there/);
  });

  it('heals a last line that a crash tore, notes it, and is whole', async () => {
    await using directory = await temporaryDirectory();
    const first = await opened(directory.path);
    await first.append(facts);
    await first.close();
    const [name = ''] = await readdir(directory.path);
    await appendFile(path.join(directory.path, name), '{"seq":2,"at":"19');
    const second = await opened(directory.path);
    await second.append(facts);
    const lines = await linesOf(second);
    assert.equal(verdictOf(lines).broken, null);
    const healed = decodeLine(lines[1] ?? '').entry;
    assert.deepEqual([healed?.action, healed?.result, healed?.detail], ['audit-log.healed', 'noted', { bytes: 17 }]);
    await second.close();
  });

  it('goes on behind a line that was changed, which stays to be found', async () => {
    await using directory = await temporaryDirectory();
    const first = await opened(directory.path);
    for (let at = 0; at < 3; at++) await first.append(facts);
    await first.close();
    const [name = ''] = await readdir(directory.path);
    const file = path.join(directory.path, name);
    const text = await readFile(file, 'utf8');
    await writeFile(file, `${text.trimEnd().slice(0, -5)}\n`);
    const second = await opened(directory.path);
    const { seq, prev } = await second.append(facts);
    const lines = await linesOf(second);
    assert.deepEqual([seq, prev], [4, digest(lines[2] ?? '')]);
    assert.equal(verdictOf(lines).broken?.line, 3);
    await second.close();
  });

  it('is whole when the disk failed a write and its repair right before a new file', async (t) => {
    await using directory = await temporaryDirectory();
    const auditLog = await opened(directory.path, { maxBytes: 1 });
    const large = { ...facts, detail: { changed: Array.from({ length: 100 }, (_, at) => `${at} ${'x'.repeat(450)}`) } };
    await auditLog.append(large);
    const [name = ''] = await readdir(directory.path);
    const probe = await open(path.join(directory.path, name));
    const handles = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const full = (): Promise<never> => Promise.reject(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
    // The line gets to the disk, the word of it does not, and the disk fails the repair as well.
    const datasync = t.mock.method(handles, 'datasync', full);
    const truncate = t.mock.method(handles, 'truncate', full);
    await assert.rejects(auditLog.append(facts), { code: 'AUDIT_WRITE' });
    datasync.mock.restore();
    truncate.mock.restore();
    const { seq } = await auditLog.append(large);
    assert.deepEqual([seq, (await readdir(directory.path)).length], [2, 2]);
    const { lines, broken } = verdictOf(await linesOf(auditLog));
    assert.deepEqual([lines, broken], [2, null]);
    await auditLog.close();
  });

  it('goes through several files, and says itself up to where it was shortened', async () => {
    await using directory = await temporaryDirectory();
    const clock = { nowMs: Date.parse('2026-01-01T00:00:00Z') };
    const auditLog = await opened(directory.path, { nowMs: () => clock.nowMs, maxBytes: 512 * 1024 });
    const many = {
      ...facts,
      detail: { changed: Array.from({ length: 50 }, (_, index) => `Segment/s${index} created`) },
    };
    for (let at = 0; at < 200; at++) await auditLog.append(many);
    const files = (await readdir(directory.path)).length;
    assert.ok(files >= 3, `${files} files`);
    assert.deepEqual(verdictOf(await linesOf(auditLog)).shortenedTo, 0);
    await auditLog.shorten();
    assert.equal((await readdir(directory.path)).length, files, 'nothing is too old or too much');
    clock.nowMs += 2 * day;
    await auditLog.shorten();
    assert.equal((await readdir(directory.path)).length, 1);
    const lines = await linesOf(auditLog);
    const { broken, shortenedTo } = verdictOf(lines);
    assert.equal(broken, null);
    assert.ok(shortenedTo > 100, `${shortenedTo}`);
    // Who removes lines cannot make the log say so without breaking it.
    assert.match(verdictOf(lines.slice(1)).broken?.problem ?? '', /before it are missing/);
    await auditLog.close();
    const again = await opened(directory.path);
    await again.append(facts);
    assert.equal(verdictOf(await linesOf(again)).broken, null);
    await again.close();
  });
});

describe('lines for refused requests', () => {
  it('are bounded for one source and for all, and what is beyond is counted', () => {
    const clock = { nowMs: 0 };
    const limit = new LineLimit({ nowMs: () => clock.nowMs });
    const takenOf = (source: string, count: number): number =>
      Array.from({ length: count }, () => limit.take(source)).filter(Boolean).length;
    assert.equal(takenOf('198.18.0.1', 100), 20);
    assert.equal(takenOf('198.18.0.2', 5), 5);
    const all = Array.from({ length: 1000 }, (_, index) => takenOf(`198.19.${index >> 8}.${index & 255}`, 1));
    assert.equal(all.filter((taken) => taken === 1).length, 175);
    const left = limit.takeLeftOut();
    assert.deepEqual([left?.requests, left?.senders.length], [80 + 825, 1 + 825]);
    assert.equal(limit.takeLeftOut(), null);
    clock.nowMs += 60_000;
    assert.equal(takenOf('198.18.0.1', 100), 20);
  });
});
