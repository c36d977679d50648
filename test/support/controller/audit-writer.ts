import process from 'node:process';
import { AuditLog } from '../../../controller/audit-log/audit-log.js';
import { createLog } from '../../../shared/log.js';

/**
 * A program that the tests kill: `audit-writer DIRECTORY` writes into an audit log as fast as it can, several lines at a time,
 * and prints the number of each that is on disk.
 */
const [directory = ''] = process.argv.slice(2);
const log = createLog({ name: 'audit-writer', level: 'error' });
const limits = { retentionMs: 86_400_000, maxBytes: 64 * 1024 * 1024 };
const auditLog = await AuditLog.open({ directory, limits, log, nowMs: Date.now });
const facts = {
  user: 'alice',
  source: 'local',
  action: 'apply',
  target: null,
  result: 'begun',
  code: null,
  of: null,
} as const;
const detail = { changed: Array.from({ length: 200 }, (_, index) => `Segment/s${index} created`) };
for (;;) {
  const lines = Array.from({ length: 8 }, async () => {
    const { seq } = await auditLog.append({ ...facts, detail });
    process.stdout.write(`${seq}\n`);
  });
  await Promise.all(lines);
}
