import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { decodeLine, type AuditEntry, type AuditFacts } from '../../../../controller/audit-log/audit-entry.js';
import { AuditLog } from '../../../../controller/audit-log/audit-log.js';
import { LocalRequests } from '../../../../controller/audit-log/local-requests.js';
import { someAuditFacts } from '../../../support/controller/audit-facts.js';
import { silentLog, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

async function withLog(act: (log: AuditLog, directory: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory();
  const limits = { retentionMs: 86_400_000, maxBytes: 64 * 1024 * 1024 };
  const auditLog = await AuditLog.open({ directory: directory.path, limits, log: silentLog, nowMs: Date.now });
  await act(auditLog, directory.path);
  await auditLog.close();
}

async function entriesOf(auditLog: AuditLog): Promise<AuditEntry[]> {
  const entries: AuditEntry[] = [];
  for await (const line of auditLog.lines()) {
    const { entry } = decodeLine(line);
    if (entry !== null) entries.push(entry);
  }
  return entries;
}

const told = ({ user, result, of }: AuditEntry) => [user, result, of];

describe('what commands on the host leave for the audit log', () => {
  it('is one request, also when the log is opened again between its begin and its end', async () => {
    await withLog(async (auditLog, directory) => {
      const { username } = os.userInfo();
      await new LocalRequests({ directory }).audited({ action: 'ca.export' }, async () => {
        await new LocalRequests({ directory }).takeInto(auditLog, silentLog);
        await auditLog.append(someAuditFacts);
      });
      await new LocalRequests({ directory }).takeInto(auditLog, silentLog);
      assert.deepEqual((await entriesOf(auditLog)).map(told), [
        [username, 'begun', null],
        ['alice', 'begun', null],
        [username, 'done', 1],
      ]);
    });
  });

  it('comes into the log once when a crash left the file behind the line', async () => {
    await withLog(async (auditLog, directory) => {
      await new LocalRequests({ directory }).audited({ action: 'ca.export' }, () => Promise.resolve());
      const crash = {
        get head() {
          return auditLog.head;
        },
        lines: (after?: number) => auditLog.lines(after),
        append: async (facts: AuditFacts): Promise<AuditEntry> => {
          await auditLog.append(facts);
          throw new Error('the process ends here');
        },
      };
      await assert.rejects(new LocalRequests({ directory }).takeInto(crash, silentLog), /ends here/);
      await new LocalRequests({ directory }).takeInto(auditLog, silentLog);
      assert.deepEqual(
        (await entriesOf(auditLog)).map(({ result, of }) => [result, of]),
        [
          ['begun', null],
          ['done', 1],
        ],
      );
      assert.deepEqual(await readdir(path.join(directory, 'local')), []);
    });
  });

  it('is moved aside when its name or its content is of another hand, and does not stop the others', async () => {
    await withLog(async (auditLog, directory) => {
      const local = path.join(directory, 'local');
      await new LocalRequests({ directory }).audited({ action: 'ca.export' }, () => Promise.resolve());
      const [name = ''] = await readdir(local);
      const content = JSON.stringify({ user: 'a', action: 'ca.export', result: 'done', code: null, detail: {} });
      await writeFile(path.join(local, 'a.json'), content);
      await writeFile(path.join(local, '0.json'), content);
      await writeFile(path.join(local, name.replace(/^\d+/, '9'.repeat(16))), content);
      await mkdir(path.join(local, `0${name}`));
      const requests = new LocalRequests({ directory });
      await requests.takeInto(auditLog, silentLog);
      await requests.takeInto(auditLog, silentLog);
      assert.deepEqual(
        (await entriesOf(auditLog)).map(({ result }) => result),
        ['begun', 'done'],
      );
      assert.deepEqual(
        (await readdir(local)).map((each) => path.extname(each)),
        Array(4).fill('.unreadable'),
      );
    });
  });

  it('names the number of a user who has no name', async (t) => {
    await withLog(async (auditLog, directory) => {
      const nameless = t.mock.method(os, 'userInfo', () => {
        throw new Error('ENOENT: no such user');
      });
      syncBuiltinESMExports();
      t.after(() => {
        nameless.mock.restore();
        syncBuiltinESMExports();
      });
      const requests = new LocalRequests({ directory });
      await requests.audited({ action: 'ca.export' }, () => Promise.resolve());
      await requests.takeInto(auditLog, silentLog);
      const user = `uid ${String(process.getuid?.())}`;
      assert.deepEqual((await entriesOf(auditLog)).map(told), [
        [user, 'begun', null],
        [user, 'done', 1],
      ]);
    });
  });
});
