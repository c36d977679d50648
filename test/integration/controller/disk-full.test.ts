import assert from 'node:assert/strict';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { patientMs } from '../../lab/patience.js';
import {
  apply,
  callApi,
  eventually,
  startedController,
  temporaryDirectory,
} from '../../support/controller/controller-fixture.js';
import { smallDisk } from '../../support/controller/small-disk.js';
import { runCli } from '../../../controller/cli/program.js';
import type { ReadyAnswer } from '../../../controller/api/api-types.js';

const namespaces = Array.from({ length: 20 }, (_, i) =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: `n${i}`, annotations: { a: 'x'.repeat(20_000) } },
  }),
).join('\n---\n');

test(
  'a change on a full disk is refused with the disk as the reason, and works by itself when there is room again',
  { timeout: patientMs(90_000) },
  async () => {
    await using disk = await smallDisk('30m');
    await using controller = await startedController(disk.path);
    assert.equal((await apply(controller, namespaces.slice(0, namespaces.indexOf('\n---')))).status, 200);
    await disk.fill();
    const refused = await apply(controller, namespaces);
    assert.equal(refused.status, 503, refused.text);
    assert.match(refused.text, /nothing was changed: the disk is full: \d/);
    assert.match(refused.text, /free space \(df\)/);
    assert.doesNotMatch(refused.text, /TIMEOUT|check that the controller runs/);
    const pending = await eventually('the controller is not ready', async () => {
      const { pending } = (await callApi(controller, 'GET', '/readyz')).body as ReadyAnswer;
      return pending.find(({ name }) => name === 'disk');
    });
    assert.match(pending.detail, /the disk is full/);
    const out: string[] = [];
    await runCli(['check', '--context', `${disk.path}/admin.yaml`], {
      print: (text) => void out.push(text),
      printError: (text) => void out.push(text),
      readStdin: () => Promise.resolve(Buffer.alloc(0)),
      env: {},
      nowMs: Date.now,
    });
    assert.match(out.join('\n'), /waiting for disk: the disk is full/);

    await disk.free();
    await eventually('the change is taken', async () => {
      const { status } = await apply(controller, namespaces);
      return status === 200 ? true : undefined;
    });
    // The store is looked at every few seconds, and may have been before the change was taken.
    await eventually('the controller is ready', async () =>
      (await callApi(controller, 'GET', '/readyz')).status === 200 ? true : undefined,
    );
  },
);

test('flow records fit on a small disk: their stream is made, whatever its limit says', async () => {
  await using disk = await smallDisk('30m');
  await using controller = await startedController(disk.path);
  await eventually('flow records can be read', async () => {
    const { body } = await callApi(controller, 'GET', '/v1/flows');
    return (body as { isCurrent?: boolean }).isCurrent === true ? true : undefined;
  });
});

test(
  'a state directory that was replaced under the controller is named, and a change is refused for it at once',
  { timeout: patientMs(90_000) },
  async () => {
    await using directory = await temporaryDirectory();
    const stateDir = path.join(directory.path, 'state');
    await using controller = await startedController(stateDir);
    await rename(stateDir, `${stateDir}.away`);
    await mkdir(stateDir, { mode: 0o700 });
    const pending = await eventually('the controller is not ready', async () => {
      const { pending } = (await callApi(controller, 'GET', '/readyz')).body as ReadyAnswer;
      return pending.find(({ name }) => name === 'disk');
    });
    assert.match(pending.detail, /is another directory than at the start: it was replaced/);
    const refused = await apply(controller, namespaces.slice(0, namespaces.indexOf('\n---')));
    assert.equal(refused.status, 503, refused.text);
    assert.match(refused.text, /AUDIT_WRITE|is another directory than at the start/);
    await rm(stateDir, { recursive: true });
    await rename(`${stateDir}.away`, stateDir);
    await eventually('changes are possible again', async () => {
      const { status } = await apply(controller, namespaces.slice(0, namespaces.indexOf('\n---')));
      return status === 200 ? true : undefined;
    });
  },
);
