import assert from 'node:assert/strict';
import path from 'node:path';
import process from 'node:process';
import { test } from 'node:test';
import { adminConfig } from '../../cluster/cluster-keys.js';
import { ownCluster } from '../../target.js';
import { CommandFolder } from '../command-folder.js';
import { OwnVolume } from '../own-volume.js';

/** `KUBECONFIG=FILE npm run test:kubernetes`, as a user runs it with a cluster, a storage class and a `kubectl` of their own. */
const cluster = ownCluster();
const { kubectl } = cluster;
const runner = path.resolve(import.meta.dirname, '../../main.js');

test('with KUBECONFIG the tests for any cluster run there, need no node, and leave nothing behind', async () => {
  using commands = new CommandFolder();
  await using _ = await OwnVolume.create(cluster);
  const namespaces = (): Promise<string> => kubectl.succeed(['get', 'namespaces', '-o', 'name']);
  const before = await namespaces();
  const { code, stdout, stderr } = await commands.run(
    `unset NODE_TEST_CONTEXT; '${process.execPath}' '${runner}' run`,
    {
      cwd: process.cwd(),
      env: { KUBECONFIG: adminConfig(cluster.plan) },
      timeoutMs: 600_000,
    },
  );
  assert.equal(code, 0, `${stdout}${stderr}`);
  assert.match(stdout, /Kubernetes v1\.\d+\.\d+, 2 nodes\n[^]*\n2 files, \d+ passed, 0 failed\n[^]*\nok\n$/);
  assert.equal(await namespaces(), before);
});
