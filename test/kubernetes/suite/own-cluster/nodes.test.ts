import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { ownCluster } from '../../target.js';
import { isReady, TestNamespace } from '../test-namespace.js';

/** Nodes as machines: their plug is pulled, and they boot again. */
const cluster = ownCluster();
let namespace: TestNamespace;

before(async () => {
  namespace = await TestNamespace.create();
  await namespace.apply('features');
  for (const name of ['echo', 'client']) await namespace.rolledOut(`daemonset/${name}`);
});
after(async () => await namespace[Symbol.asyncDispose]());

test('kube-proxy has loaded its rules with the back end that was chosen', async () => {
  const argv = cluster.plan.proxyMode === 'nftables' ? ['nft', 'list', 'table', 'ip', 'kube-proxy'] : ['iptables-save'];
  const rules = await cluster.node('n1').succeed(argv);
  const service = (await namespace.json(['get', 'service', 'echo'])) as {
    readonly spec: { readonly clusterIP: string };
  };
  assert.ok(rules.includes(service.spec.clusterIP), rules);
});

test('a node whose plug is pulled boots again with its disk, without its /run, and its pods run again', async () => {
  const node = cluster.node('n2');
  const pod = await namespace.podOn('n2', 'echo');
  await node.succeed(['sh', '-c', 'echo kept > /var/lib/culvert/disk; echo lost > /run/memory']);
  await node.unplug();
  assert.equal((await restarts()).restartCount, 0);
  await cluster.bootAgain('n2');
  const { stdout } = await node.run(['sh', '-c', 'cat /var/lib/culvert/disk /run/memory']);
  assert.equal(stdout, 'kept\n');
  await waitUntil(
    'the pod of the node runs again',
    async () => ((await restarts()).restartCount > 0 ? true : undefined),
    90_000,
  );
  await namespace.target.kubectl.wait(['wait', '--for=condition=Ready', 'node/n2']);
  const again = await waitUntil('the pod is ready', async () => {
    const found = await namespace.podOn('n2', 'echo');
    return isReady(found) ? found : undefined;
  });
  assert.equal(again.metadata.uid, pod.metadata.uid);
  const client = await namespace.podOn('n1', 'client');
  const { host } = await namespace.greeting(client.metadata.name, again.status.podIP ?? '', 7000);
  assert.equal(host, pod.metadata.name);
});

async function restarts(): Promise<{ readonly restartCount: number }> {
  const pod = await namespace.podOn('n2', 'echo');
  return pod.status.containerStatuses?.[0] ?? { restartCount: -1 };
}
