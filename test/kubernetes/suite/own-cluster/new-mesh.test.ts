import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { ownCluster } from '../../target.js';
import type { InstalledCulvert } from './installed-culvert.js';
import { appImage, onlyWebToDb, Shop } from './shop.js';

/** The controller has lost its state: it makes no new mesh until a person wants one, and then agents join that by themselves. */
const cluster = ownCluster();
const { kubectl } = cluster;
const shop = new Shop(cluster);
const system = ['-n', 'culvert-system'] as const;
const controller = 'deployment/culvert-controller';
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh();
  await kubectl.apply(onlyWebToDb);
  await kubectl.wait(['wait', '--for=condition=InForce', 'mesh/default', 'sr/web-to-db']);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

async function assertRules(): Promise<void> {
  const [web, unmeshed] = [await shop.greeting('shop/web'), await shop.greeting('default/unmeshed')];
  if (!web.includes('"host":"db-')) assert.fail(`web was not greeted: ${web}; ${await culvert.lastRecords()}`);
  assert.ok(!unmeshed.includes('"host"'), unmeshed);
}

/** How many agents the controller counts as ready. */
async function readyAgents(): Promise<number> {
  const { agents } = (await culvert.culvertJson(['status'])) as {
    readonly agents: readonly { readonly state: string }[];
  };
  return agents.filter(({ state }) => state === 'ready').length;
}

const newPod = `apiVersion: v1
kind: Pod
metadata: { name: later, namespace: shop }
spec:
  serviceAccountName: web
  nodeName: n2
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, image: '${appImage}', command: [sleep, '36000'] }]
`;

test(
  'a controller without its state refuses to begin another mesh, and says how; agents join that one',
  { timeout: 400_000 },
  async (t: TestContext) => {
    await assertRules();
    await kubectl.succeed([...system, 'scale', controller, '--replicas=0']);
    await kubectl.wait([...system, 'wait', '--for=delete', 'pod', '-l', 'app.kubernetes.io/component=controller']);
    await cluster.node('n1').succeed(['rm', '-rf', '/var/lib/culvert/controller']);
    await kubectl.succeed([...system, 'scale', controller, '--replicas=1']);
    const said = await waitUntil('the controller says why it does not start', async () => {
      const { stdout } = await kubectl.run([...system, 'logs', controller, '-c', 'controller', '--previous']);
      return stdout.includes('MESH_OF_OTHER_STATE') ? stdout : undefined;
    });
    const [, command = ''] =
      /kubectl (-n culvert-system patch configmap .*?'\{"data":null\}')/.exec(said.replaceAll('\\', '')) ?? [];
    assert.notEqual(command, '', said);
    await assertRules();

    const startedAt = performance.now();
    await kubectl.succeed(command.replaceAll("'", '').split(' '));
    await kubectl.wait([...system, 'rollout', 'status', controller]);
    // kubelet brings the roots to each node when it looks for them; until then an agent is in the mesh before, with its pods.
    await waitUntil(
      'both nodes are in the new mesh',
      async () => ((await readyAgents()) === 2 ? true : undefined),
      150_000,
    );
    t.diagnostic(`in the new mesh after ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
    await culvert.captures(3);
    await kubectl.wait(['wait', '--for=condition=InForce', 'mesh/default', 'sr/web-to-db']);
    await kubectl.apply(newPod);
    await kubectl.wait(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod/later']);
    assert.equal(await shop.isGreeted('shop/later'), true);
    await assertRules();
  },
);
