import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { patientMs } from '../../../lab/patience.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { manifest } from '../../manifest.js';
import { ownCluster } from '../../target.js';
import { CommandFolder } from '../command-folder.js';
import { recordFigure } from '../figures.js';
import { InstalledCulvert } from './installed-culvert.js';
import { cniOfNodes, nodeTraces } from './node-traces.js';

/** Culvert comes and goes five times, while a pod of an application opens connections all the time. */
const cluster = ownCluster();
const { kubectl } = cluster;
const commands = new CommandFolder();
const shop = manifest('shop', { APP: imageName('app', usualRepository) });
const documents = `apiVersion: culvert.dev/v1
kind: Mesh
metadata: { name: default }
spec: { mtls: STRICT, defaultAction: deny }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: web-to-db }
spec: { action: allow, from: [{ serviceAccount: shop/web }], to: [{ serviceAccount: shop/db }] }
`;
const rounds = 5;

before(async () => {
  await kubectl.apply(shop);
  await kubectl.wait(['-n', 'shop', 'rollout', 'status', 'deployment/db']);
  await kubectl.wait(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', '--all']);
});
after(async () => {
  commands[Symbol.dispose]();
  await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: shop, timeoutMs: 150_000 });
  await forgetState();
});

/** It is in a directory of the node that the user chose, so it outlives what installs and uninstalls. */
async function forgetState(): Promise<void> {
  await cluster.node('n1').succeed(['rm', '-rf', '/var/lib/culvert/controller']);
}

type Load = {
  readonly begun: number;
  readonly greeted: number;
  readonly longestMs: number;
  readonly gapMs: number;
  readonly errors: readonly string[];
};

/** web opens twenty connections a second to db until the returned function is called. */
async function load(): Promise<() => Promise<Load>> {
  await kubectl.exec('shop/web', ['node', '-e', "require('fs').rmSync('/tmp/end', { force: true })"]);
  const argv = ['node', '/app.mjs', 'load', '10.96.7.7', '70', '3600000'];
  const loading = kubectl.exec('shop/web', argv, { timeoutMs: 3_700_000 });
  return async () => {
    await kubectl.exec('shop/web', ['node', '-e', "require('fs').writeFileSync('/tmp/end', '')"]);
    return JSON.parse((await loading).stdout) as Load;
  };
}

async function isAnswered(pod: string): Promise<boolean> {
  return (await kubectl.exec(pod, ['node', '/app.mjs', 'once', '10.96.7.7', '70'])).stdout.includes('"host":"db-');
}

/** Of every kind that can be listed, but for what comes and goes by itself. */
async function objects(): Promise<readonly string[]> {
  const all = (await kubectl.succeed(['api-resources', '--verbs=list', '-o', 'name'])).trim().split('\n');
  const kinds = all.filter((name) => !/^(?:events|componentstatuses|leases)(?:\.|$)/.test(name));
  const names = await kubectl.succeed(['get', kinds.join(','), '--all-namespaces', '--ignore-not-found', '-o', 'name']);
  return names.trim().split('\n').sort();
}

test(
  `${rounds} times installed and uninstalled, and nothing is left each time`,
  { timeout: 900_000 },
  async (t: TestContext) => {
    const clean = { objects: await objects(), cni: await cniOfNodes(cluster) };
    let longestGapMs = 0;
    for (let round = 1; round <= rounds; round++) {
      const ended = await load();
      const culvert = await InstalledCulvert.install(cluster);
      await culvert.enrol('shop', 3);
      if (round % 2 === 0) await kubectl.apply(documents);
      else await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], documents);
      if (round % 2 === 0) await kubectl.wait(['wait', '--for=condition=InForce', 'mesh/default', 'sr/web-to-db']);
      assert.equal(await isAnswered('shop/web'), true);
      assert.equal(await isAnswered('default/unmeshed'), false);
      const said = await commands.succeed('culvert uninstall --yes', { timeoutMs: 400_000 });
      assert.match(said, /nothing of Culvert is left\n$/);
      const definitions = await InstalledCulvert.definitions();
      await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: definitions, timeoutMs: 150_000 });
      assert.deepEqual(await nodeTraces(cluster), [], `round ${round}`);
      assert.equal(await cniOfNodes(cluster), clean.cni, `round ${round}`);
      assert.deepEqual(await objects(), clean.objects, `round ${round}`);
      assert.equal(await isAnswered('shop/web'), true);
      assert.equal(await isAnswered('default/unmeshed'), true);
      const { begun, greeted, gapMs, errors } = await ended();
      t.diagnostic(
        `round ${round}: ${greeted} of ${begun} greeted, longest gap ${gapMs} ms; ${errors.slice(0, 5).join(', ')}`,
      );
      longestGapMs = Math.max(longestGapMs, gapMs);
      assert.ok(gapMs < patientMs(15_000), `round ${round}: no connection succeeded for ${gapMs} ms`);
      // Every second time the next installation finds the state of the one before.
      if (round % 2 === 0) await forgetState();
    }
    recordFigure('uninstallGapSeconds', Number((longestGapMs / 1000).toFixed(1)));
  },
);
