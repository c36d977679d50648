import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { ownCluster } from '../../target.js';
import type { InstalledCulvert } from './installed-culvert.js';
import { appImage, onlyWebToDb, Shop } from './shop.js';

/** A node that is new, and registers with the startup taint, takes pods when its agent captures them. */
const cluster = ownCluster();
const { kubectl } = cluster;
const shop = new Shop(cluster);
const taint = { key: 'culvert.dev/agent-not-ready', effect: 'NoSchedule' };
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh(['--startup-taint']);
  await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], onlyWebToDb);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await startShopAgain();
  await shop[Symbol.asyncDispose]();
});

/** As at the beginning: pods of the node that was taken away are not there where the test ended early. */
async function startShopAgain(): Promise<void> {
  await kubectl.succeed(['-n', 'shop', 'delete', 'deployment,replicaset,pod', '--all', '--timeout=60s']);
  await shop.start();
}

/** Asks db once, as the first thing that it does. */
const first = `apiVersion: v1
kind: Pod
metadata: { name: first, namespace: shop }
spec:
  serviceAccountName: web
  nodeSelector: { kubernetes.io/hostname: n2 }
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, image: '${appImage}', command: [node, /app.mjs, once, 10.96.7.7, '70'] }]
`;

async function value(args: readonly string[], jsonpath: string): Promise<string> {
  return (await kubectl.succeed([...args, '-o', `jsonpath=${jsonpath}`])).trim();
}

test('the first pod of a new node is in the mesh from its first connection', { timeout: 400_000 }, async (t) => {
  // What names its node is not scheduled.
  const onN1 = JSON.stringify({ spec: { template: { spec: { nodeName: 'n1' } } } });
  await kubectl.succeed(['-n', 'shop', 'patch', 'deployment', 'db', '-p', onN1]);
  await kubectl.wait(['-n', 'shop', 'rollout', 'status', 'deployment/db']);
  await culvert.captures(3);
  await cluster.node('n2').unplug();
  for (const [namespace, name] of [
    ['shop', 'near'],
    ['default', 'host2'],
  ] as const) {
    await kubectl.succeed(['-n', namespace, 'delete', 'pod', name, '--force', '--grace-period=0']);
  }
  await kubectl.succeed(['delete', 'node', 'n2']);
  await kubectl.apply(first);
  const startedAt = performance.now();
  await cluster.bootAsNew('n2', [taint]);
  assert.ok((await value(['get', 'node', 'n2'], '{.spec.taints[*].key}')).includes(taint.key));

  const phase = await waitUntil(
    'the pod has ended',
    async () => {
      const now = await value(['-n', 'shop', 'get', 'pod', 'first'], '{.status.phase}');
      return ['Succeeded', 'Failed'].includes(now) ? now : undefined;
    },
    180_000,
  );
  t.diagnostic(`its first pod ended ${((performance.now() - startedAt) / 1000).toFixed(0)} s after power on`);
  const said = await kubectl.succeed(['-n', 'shop', 'logs', 'first']);
  if (!said.includes('"host":"db-')) assert.fail(`it was not greeted: ${said}; ${await culvert.lastRecords()}`);
  assert.equal(phase, 'Succeeded');
  assert.equal((await value(['get', 'node', 'n2'], '{.spec.taints[*].key}')).includes(taint.key), false);

  const scheduled = await value(
    ['-n', 'shop', 'get', 'pod', 'first'],
    '{.status.conditions[?(@.type=="PodScheduled")].lastTransitionTime}',
  );
  const agents = ['-n', 'culvert-system', 'get', 'pods', '-l', 'app.kubernetes.io/component=agent'];
  const ofN2 = ['--field-selector', 'spec.nodeName=n2'];
  const agentRuns = await value(
    [...agents, ...ofN2],
    '{.items[0].status.containerStatuses[0].state.running.startedAt}',
  );
  assert.ok(scheduled >= agentRuns && agentRuns !== '', `scheduled ${scheduled}, the agent runs since ${agentRuns}`);
  await startShopAgain();
  await culvert.captures(3);
});
