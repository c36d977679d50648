import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { it } from 'node:test';
import { programs } from '../../../lab/programs.js';
import { findCommand } from '../../../lab/requirements.js';

const documents = `
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: db-only }
spec: { action: deny, to: [{ serviceAccount: billing/db }] }
---
apiVersion: culvert.dev/v1
kind: PolicyTest
metadata: { name: billing }
spec: { tests: [{ from: guest/shell, to: "billing/db:5432", expect: deny, by: db-only }] }
`;

it('culvert test needs no network at all', async () => {
  const argv = ['-n', ...programs.culvert, 'test', '-f', '-', '--output', 'tap'];
  const child = spawn(findCommand('unshare') ?? 'unshare', argv, { env: {}, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.end(documents);
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]);
  assert.equal(code, 0, err);
  assert.match(out, /^TAP version 13\n1\.\.1\nok 1 - guest\/shell to billing\/db:5432: deny by db-only\n/);
});
