import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { RunningController } from '../../../../controller/app.js';
import { culvert as run, type CliRun } from '../../../support/controller/cli-fixture.js';
import { startedController, temporaryDirectory } from '../../../support/controller/controller-fixture.js';

function segment(namespace: string): string {
  return `
apiVersion: culvert.dev/v1
kind: Segment
metadata: { name: batch }
spec: { members: [{ namespace: ${namespace} }] }
`;
}

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let controller: RunningController;

before(async () => {
  directory = await temporaryDirectory();
  controller = await startedController(join(directory.path, 'state'));
});
after(async () => {
  await controller[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function culvert(stdin: string, ...argv: readonly string[]): Promise<CliRun> {
  return run(argv, { env: { CULVERT_CONTEXT: join(directory.path, 'state', 'admin.yaml') }, stdin });
}

// The steps follow one another, as a person would go.
describe('the history of a running controller', () => {
  it('keeps what was said with a change', async () => {
    assert.equal((await culvert(segment('old'), 'apply', '-f', '-', '--message', 'first')).code, 0);
    assert.equal((await culvert(segment('new'), 'apply', '-f', '-', '-m', 'INC-42')).code, 0);
    const { out } = await culvert('', 'history');
    assert.match(out, /^3 +\S+ ago +admin +~Segment\/batch +INC-42\n2 .*\+Segment\/batch +first$/m);
  });

  it('shows what a revision changed', async () => {
    const { code, out } = await culvert('', 'history', '3');
    assert.equal(code, 0);
    assert.match(out, /- {4}- namespace: old\n {2}\+ {4}- namespace: new$/);
    const { err, code: unknown } = await culvert('', 'history', '99');
    assert.equal(unknown, 4);
    assert.match(err, /there is no revision 99 yet/);
  });

  it('rolls back as a new revision, and only once', async () => {
    const dry = await culvert('', 'rollback', '2', '--dry-run');
    assert.match(dry.out, /^Segment\/batch configured \(dry run\)\nrevision 3 stays in force$/);
    const { code, out } = await culvert('', 'rollback', '2', '--message', 'back');
    assert.equal(code, 0);
    assert.match(out, /^Segment\/batch configured\nrevision 4$/);
    assert.match((await culvert('', 'rollback', '2')).out, /revision 4, which stays in force$/);
    assert.match((await culvert('', 'get', 'segment', 'batch', '-o', 'yaml')).out, /namespace: old/);
  });

  it('exports documents that give the same mesh again', async () => {
    const { out } = await culvert('', 'export');
    const again = await culvert(out, 'apply', '-f', '-');
    assert.match(again.out, /^Segment\/batch unchanged\nrevision 4$/m);
    const all = JSON.parse((await culvert('', 'export', '-o', 'json')).out) as { revision: number; snapshot: object };
    assert.equal(all.revision, 4);
    assert.ok('rules' in all.snapshot);
  });

  it('says that a rollout is complete when no agent is behind', async () => {
    const { code, out } = await culvert('', 'rollout', 'status', '--wait', '5s');
    assert.equal(code, 0);
    assert.equal(out, 'revision 4: complete, enforced by 0 of 0 agents');
    assert.equal((await culvert('', 'rollout', 'status', '--revision', '99')).code, 4);
    assert.equal((await culvert('', 'rollout', 'status', '--revision', 'x')).code, 64);
  });
});
