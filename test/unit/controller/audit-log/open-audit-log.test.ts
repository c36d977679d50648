import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openAuditLog } from '../../../../controller/audit-log/open-audit-log.js';
import { someAuditFacts as facts } from '../../../support/controller/audit-facts.js';
import { silentLog, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

const mebibyte = 1024 * 1024;

const lines = 600;
const many = { ...facts, detail: { changed: Array.from({ length: 50 }, (_, index) => `Segment/s${index} created`) } };

/** Of some 800 kB, how many lines are left. */
async function leftOn(diskBytes: number): Promise<number> {
  await using directory = await temporaryDirectory();
  const settings = { stateDir: directory.path, auditLogRetention: 86_400_000, auditLogMaxBytes: 1024 * mebibyte };
  const init = { settings, nowMs: () => 0, log: silentLog, diskBytes: () => Promise.resolve(diskBytes) };
  const { auditLog, maintain, close } = await openAuditLog(init);
  for (let at = 0; at < lines; at += 1) await auditLog.append(many);
  await maintain();
  let left = 0;
  for await (const line of auditLog.lines()) left += line === '' ? 0 : 1;
  await close();
  return left;
}

test('the audit log has a quarter of a small disk, so that its oldest lines go before the disk is full', async () => {
  assert.equal(await leftOn(8 * 1024 * mebibyte), lines);
  // A file system that has no size.
  assert.equal(await leftOn(0), lines);
  assert.ok((await leftOn(mebibyte)) < lines / 2);
});
