import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AuditLog } from '../../../controller/audit-log/audit-log.js';
import { ChainVerifier } from '../../../controller/audit-log/verify-chain.js';
import { silentLog, temporaryDirectory } from '../../support/controller/controller-fixture.js';
import { killedWriter } from '../../support/controller/killed-writer.js';

const program = fileURLToPath(new URL('../../support/controller/audit-writer.js', import.meta.url));

test('an audit log whose writer is killed at any moment is whole, and has every line that was said to be on disk', async () => {
  await using directory = await temporaryDirectory();
  let before = 0;
  for (let life = 0; life < 10; life++) {
    const newest = Math.max(...(await killedWriter(program, directory.path, 20 + life * 37)));
    assert.ok(newest > before);
    const limits = { retentionMs: 86_400_000, maxBytes: 64 * 1024 * 1024 };
    const auditLog = await AuditLog.open({ directory: directory.path, limits, log: silentLog, nowMs: Date.now });
    const verifier = new ChainVerifier();
    for await (const line of auditLog.lines()) verifier.add(line);
    const { broken, head } = verifier.verdict;
    assert.equal(broken, null, `life ${life}: ${JSON.stringify(broken)}`);
    assert.ok(head.seq >= newest, `life ${life}: ${head.seq} on disk, ${newest} acknowledged`);
    before = head.seq;
    await auditLog.close();
  }
});
