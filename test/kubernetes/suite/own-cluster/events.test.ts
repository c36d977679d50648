import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { ownCluster } from '../../target.js';
import type { InstalledCulvert } from './installed-culvert.js';
import { Shop } from './shop.js';

/** What `kubectl describe` says of objects that the mesh has something to say of. */
const cluster = ownCluster();
const { kubectl, nodes } = cluster;
const system = 'culvert-system';
const shop = new Shop(cluster);
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh();
});
after(async () => {
  await shop[Symbol.asyncDispose]();
  await culvert[Symbol.asyncDispose]();
});

/** Waits until `kubectl describe` of an object has a line like this. */
async function described(what: readonly string[], line: RegExp): Promise<string> {
  return await waitUntil(
    `kubectl describe ${what.join(' ')} has ${line}`,
    async () => (await kubectl.succeed(['describe', ...what])).split('\n').find((text) => line.test(text)),
    180_000,
  );
}

/** On which nodes agents run; null: on all. */
async function select(nodeSelector: Readonly<Record<string, string>> | null): Promise<void> {
  const patch = JSON.stringify({ spec: { template: { spec: { nodeSelector } } } });
  await kubectl.succeed(['-n', system, 'patch', 'daemonset', 'culvert-agent', '--type=merge', '-p', patch]);
}

test('a pod whose agent is away has an event with the reason, and one when it is', async () => {
  const { spec } = (await kubectl.json(['-n', 'shop', 'get', 'pod', 'web'])) as { readonly spec: { nodeName: string } };
  const agents = ['-n', system, 'get', 'pods', '-l', 'app.kubernetes.io/component=agent'];
  const own = [...agents, '--field-selector', `spec.nodeName=${spec.nodeName}`, '-o', 'name'];
  const [agent = ''] = (await kubectl.succeed(own)).split('\n');
  // The agent of this node goes, and the DaemonSet stays: what it has captured is closed.
  const others = nodes.map(({ name }) => name).filter((name) => name !== spec.nodeName);
  await kubectl.succeed(['label', 'node', ...others, 'culvert.dev/test=agent']);
  await select({ 'culvert.dev/test': 'agent' });
  await kubectl.wait(['-n', system, 'wait', '--for=delete', agent]);
  const event = await described(['-n', 'shop', 'pod', 'web'], /Warning +NotCaptured/);
  assert.match(event, /culvert\.dev\/controller.*its agent/);
  await described(['node', spec.nodeName], /Warning +Agent(Stopped|Silent)/);
  await select(null);
  await kubectl.succeed(['label', 'node', ...others, 'culvert.dev/test-']);
  await described(['-n', 'shop', 'pod', 'web'], /Normal +Captured/);
});

test('a label that is no word of ours is told at the pod', async () => {
  await kubectl.succeed(['-n', 'shop', 'label', '--overwrite', 'pod', 'web', 'culvert.dev/mesh=yes']);
  const event = await described(['-n', 'shop', 'pod', 'web'], /Warning +NotAsWritten/);
  assert.match(event, /must be "enabled" or "disabled"/);
  await kubectl.succeed(['-n', 'shop', 'label', 'pod', 'web', 'culvert.dev/mesh-']);
});

test('culvert check says that the plugin is in the chain of both nodes', async () => {
  const [line] = (await culvert.checks()).filter(({ check }) => check === 'kubernetes');
  assert.match(line?.message ?? '', /the CNI plugin is in the chain of 2 of 2 nodes/);
});
