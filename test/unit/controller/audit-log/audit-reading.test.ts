import assert from 'node:assert/strict';
import { open, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { requests } from '../../../../controller/api/audit-log-routes.js';
import { chainStart, encodeEntry, type AuditFacts } from '../../../../controller/audit-log/audit-entry.js';
import { pathOf, readEnd } from '../../../../controller/audit-log/audit-files.js';
import { AuditLog, type LineMark } from '../../../../controller/audit-log/audit-log.js';
import { AuditPages } from '../../../../controller/audit-log/audit-pages.js';
import { ChainVerifier } from '../../../../controller/audit-log/verify-chain.js';
import { silentLog, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

const facts: AuditFacts = {
  user: 'alice',
  source: '198.18.0.1',
  action: 'apply',
  target: null,
  result: 'done',
  code: null,
  of: null,
  detail: {},
};
const large = { ...facts, detail: { changed: Array.from({ length: 50 }, (_, at) => `${at} ${'ä'.repeat(1000)}`) } };

function opened(directory: string, maxBytes = 64 * 1024 * 1024): Promise<AuditLog> {
  const limits = { retentionMs: 86_400_000, maxBytes };
  return AuditLog.open({ directory, limits, log: silentLog, nowMs: () => 0 });
}

describe('reading the audit log', () => {
  it('gives pages that are the whole log, each from where the one before ended', async () => {
    await using directory = await temporaryDirectory();
    const auditLog = await opened(directory.path, 16 * 1024 * 1024);
    for (let at = 0; at < 80; at++) await auditLog.append(large);
    const marks: (LineMark | null)[] = [];
    const pages = new AuditPages({
      auditLog: {
        placedLines: (after, mark) => {
          marks.push(mark ?? null);
          return auditLog.placedLines(after, mark);
        },
      },
    });
    const verifier = new ChainVerifier();
    for (let after: number | null = 0; after !== null;) {
      const { lines, next } = await pages.read(after);
      for (const line of lines) verifier.add(line);
      after = next;
    }
    const { lines, broken } = verifier.verdict;
    assert.deepEqual([lines, broken], [80, null]);
    assert.ok(marks.length >= 3, `${marks.length} pages`);
    assert.deepEqual(
      marks.slice(1).filter((mark) => mark === null),
      [],
      'a page read the file from its begin',
    );
    assert.ok((await readdir(directory.path)).length >= 2);
    await auditLog.close();
  });

  it('finds the end of a file without reading the whole of it', async () => {
    await using directory = await temporaryDirectory();
    const file = { path: pathOf(directory.path, 1), firstSeq: 1 };
    const { text, hash } = encodeEntry({ ...facts, seq: 7, at: '2026-01-01T00:00:00.000Z', prev: chainStart.hash });
    const handle = await open(file.path, 'w');
    // More than can be read at once; without disk space.
    const hole = 3 * 1024 ** 3;
    await handle.write(`\n${text}\nto`, hole);
    await handle.close();
    assert.deepEqual(await readEnd(file), {
      validBytes: hole + 1 + Buffer.byteLength(text) + 1,
      tornBytes: 2,
      head: { seq: 7, hash },
      lastAtMs: Date.parse('2026-01-01'),
    });
  });

  it('goes on behind a last line that is longer than what is read at first, and one that is damaged', async () => {
    await using directory = await temporaryDirectory();
    const auditLog = await opened(directory.path);
    await auditLog.append(facts);
    await auditLog.append(large);
    await auditLog.close();
    const [name = ''] = await readdir(directory.path);
    const file = { path: path.join(directory.path, name), firstSeq: 1 };
    assert.deepEqual((await readEnd(file)).head, auditLog.head);
    const handle = await open(file.path, 'a');
    await handle.write(`${'x'.repeat(200_000)}\n`);
    await handle.close();
    assert.equal((await readEnd(file)).head?.seq, 3);
  });

  it('goes on when the retention removes a file meanwhile', async () => {
    await using directory = await temporaryDirectory();
    const auditLog = await opened(directory.path, 1);
    for (let at = 0; at < 4; at++) await auditLog.append(large);
    const [first = '', second = ''] = (await readdir(directory.path)).sort();
    const lines = auditLog.lines();
    assert.equal((await lines.next()).done, false);
    await rm(path.join(directory.path, first));
    await rm(path.join(directory.path, second));
    let rest = 0;
    for await (const line of lines) if (line !== '') rest++;
    assert.equal(rest, 2);
    await auditLog.close();
  });

  it('counts requests that are too many to hold, if they were asked for', async () => {
    async function* lines(): AsyncGenerator<string> {
      for (let seq = 1; seq <= 30; seq++) {
        const action = seq % 3 === 0 ? 'rollback' : 'apply';
        yield encodeEntry({ ...facts, action, seq, at: '2026-01-01T00:00:00.000Z', prev: chainStart.hash }).text;
        await Promise.resolve();
      }
    }
    const isWanted = ({ action }: { readonly action: string }): boolean => action === 'rollback';
    const filter = { user: null, sinceMs: 0, isWanted, maxItems: 12 };
    const { items, leftOut } = await requests(lines(), filter);
    assert.deepEqual([items.length, items.filter(isWanted).length, leftOut], [12, 4, 6]);
  });
});
