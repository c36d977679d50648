import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { after, before, test } from 'node:test';
import { runCommand } from '../../../lab/command.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { imageName, usualRepository } from '../../images/test-images.js';
import { manifest } from '../../manifest.js';
import { ownCluster } from '../../target.js';
import { InstalledCulvert } from './installed-culvert.js';

/** How Culvert goes away: in order, by a DaemonSet that is deleted, and in the wrong order. */
const cluster = ownCluster();
const { kubectl } = cluster;
const system = 'culvert-system';
const culvertProgram = path.resolve(import.meta.dirname, '../../../../programs/culvert.js');
const directory = mkdtempSync(path.join(tmpdir(), 'culvert-uninstall-'));
const kubectlProgram = path.join(directory, 'kubectl');
const shop = manifest('shop', { APP: imageName('app', usualRepository) });
const strict = `apiVersion: culvert.dev/v1
kind: Mesh
metadata: { name: default }
spec: { mtls: STRICT, defaultAction: deny }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: web-to-db }
spec: { action: allow, from: [{ serviceAccount: shop/web }], to: [{ serviceAccount: shop/db }] }
`;

before(async () => {
  const words = cluster.nodes[0].enter(['kubectl', ...cluster.kubectlArgs]).map((word) => `'${word}'`);
  writeFileSync(kubectlProgram, `#!/bin/sh\nexec ${words.join(' ')} "$@"\n`, { mode: 0o755 });
  await kubectl.apply(shop);
  await kubectl.wait(['-n', 'shop', 'rollout', 'status', 'deployment/db']);
  await kubectl.wait(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod', '--all']);
});
after(async () => {
  rmSync(directory, { recursive: true });
  await kubectl.succeed(['delete', '-f', '-', '--timeout=120s'], { input: shop, timeoutMs: 150_000 });
  for (const node of cluster.nodes) await node.succeed(['rm', '-rf', '/var/lib/culvert/controller']);
});

/** A mesh that allows what web asks db for, and nothing else. */
async function installed(): Promise<void> {
  const culvert = await InstalledCulvert.install(cluster);
  await culvert.enrol('shop', 3);
  await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], strict);
  assert.equal(await isAnswered('default/unmeshed'), false);
  assert.equal(await isAnswered('shop/web'), true);
  const all = (await traces()).join('\n');
  for (const what of [/CULVERT/, /culvert-cni/, /\/var\/lib\/culvert\/agent/]) assert.match(all, what);
}

async function uninstall(...more: readonly string[]): Promise<string> {
  const argv = [process.execPath, culvertProgram, 'uninstall', '--yes', '--kubectl', kubectlProgram, ...more];
  const { code, stdout, stderr } = await runCommand(argv, { timeoutMs: 400_000 });
  assert.equal(code, 0, `${stdout}${stderr}`);
  return stdout;
}

async function isAnswered(pod: string): Promise<boolean> {
  return (await kubectl.exec(pod, ['node', '/app.mjs', 'once', '10.96.7.7', '70'])).stdout.includes('"host":"db-');
}

/** Kube-proxy has chains for the Service of the controller. */
function isOurs(line: string): boolean {
  return /culvert/i.test(line) && !line.includes(`${system}/culvert-controller/`);
}

/** What nodes have of Culvert: rules in any namespace, a plugin, state of the agent. A line for each. */
async function traces(): Promise<readonly string[]> {
  const script = [
    'nft list ruleset',
    'for n in /run/netns/*; do nsenter --net=$n nft list ruleset; done',
    'for f in /etc/cni/net.d/*; do cat $f; done',
    'for f in /opt/cni/bin/culvert* /var/lib/culvert/agent; do if [ -e $f ]; then echo $f; fi; done',
  ].join('; ');
  const found = await Promise.all(
    cluster.nodes.map(async (node) => {
      const lines = (await node.succeed(['sh', '-c', script])).split('\n').filter((line) => isOurs(line));
      return lines.map((line) => `${node.name}: ${line.trim()}`);
    }),
  );
  return found.flat();
}

test('culvert uninstall takes everything out, and pods go on as if it had never been there', async () => {
  await installed();
  const said = await uninstall();
  assert.match(said, /label taken from namespace shop\n/);
  assert.match(said, /off 2 nodes\n.*\n✔ nothing of Culvert is left\n$/);
  assert.deepEqual(await traces(), []);
  assert.equal(await isAnswered('shop/web'), true);
  assert.equal(await isAnswered('default/unmeshed'), true);
  const left = ['get', 'namespaces,clusterroles,clusterrolebindings', '-l', 'app.kubernetes.io/part-of=culvert'];
  assert.equal(await kubectl.succeed([...left, '-o', 'name']), '');
});

test('agents whose DaemonSet is deleted take their rules out by themselves', async () => {
  await installed();
  const which = ['delete', 'daemonset', 'culvert-agent', '--cascade=background', '--timeout=90s'];
  await kubectl.succeed(['-n', system, ...which], { timeoutMs: 120_000 });
  const pods = ['-n', system, 'get', 'pods', '-l', 'app.kubernetes.io/component=agent', '-o', 'name'];
  await waitUntil('the agents have ended', async () => (await kubectl.succeed(pods)) === '' || undefined, 90_000);
  const rules = (await traces()).filter((line) => !line.endsWith('/var/lib/culvert/agent'));
  assert.deepEqual(rules, []);
  assert.equal(await isAnswered('shop/web'), true);
  assert.equal(await isAnswered('default/unmeshed'), true);
  await uninstall('--image', imageName('culvert', usualRepository));
  assert.deepEqual(await traces(), []);
});

test('when the controller was deleted first, pods stay closed, and culvert uninstall opens them', async () => {
  await installed();
  await kubectl.succeed(['-n', system, 'delete', 'deployment', 'culvert-controller', '--cascade=foreground']);
  await kubectl.succeed(['-n', system, 'delete', 'daemonset', 'culvert-agent', '--cascade=foreground']);
  assert.notDeepEqual(await traces(), []);
  assert.equal(await isAnswered('shop/web'), false);
  await kubectl.succeed(['delete', 'namespace', system, '--timeout=90s'], { timeoutMs: 120_000 });
  const said = await uninstall('--image', imageName('culvert', usualRepository));
  assert.match(said, /the controller does not answer/);
  assert.deepEqual(await traces(), []);
  assert.equal(await isAnswered('shop/web'), true);
  assert.equal(await isAnswered('default/unmeshed'), true);
});
