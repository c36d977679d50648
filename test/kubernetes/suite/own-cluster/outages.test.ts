import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { waitUntil } from '../../../lab/wait-until.js';
import type { NodePlan } from '../../cluster/cluster-plan.js';
import { type ContainerName, NodeContainers } from '../../cluster/node-containers.js';
import { ownCluster } from '../../target.js';
import { recordFigure } from '../figures.js';
import type { Pod } from '../test-namespace.js';
import type { InstalledCulvert } from './installed-culvert.js';
import { appImage, onlyWebToDb, Shop } from './shop.js';

/** The API server is away for a minute, and then the controller: traffic, agents that crash, and what comes meanwhile. */
const cluster = ownCluster();
const { kubectl } = cluster;
const shop = new Shop(cluster);
const outageMs = 60_000;
const agent: ContainerName = { container: 'agent' };
const web: ContainerName = { pod: 'web', container: 'main' };
const controller = ['-n', 'culvert-system', 'deployment/culvert-controller'];
const containers = { n1: new NodeContainers(cluster.node('n1')), n2: new NodeContainers(cluster.node('n2')) };
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh();
  await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], onlyWebToDb);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

/** Whether db greets a pod; asked of the runtime of its node, which needs no API server. */
async function isGreeted(node: NodePlan['name'], pod: string): Promise<boolean> {
  const argv = ['node', '/app.mjs', 'once', '10.96.7.7', '70'];
  const { stdout } = await containers[node].exec({ pod, container: 'main' }, argv);
  return stdout.includes('"host":"db-');
}

/** How long until db greets a pod, in milliseconds. */
async function greetedAfterMs(node: NodePlan['name'], pod: string, sinceMs = performance.now()): Promise<number> {
  await waitUntil(`db greets ${pod}`, async () => (await isGreeted(node, pod)) || undefined, 120_000);
  return performance.now() - sinceMs;
}

/** web opens twenty connections to db in each second. */
async function noneFails(forMs: number): Promise<number> {
  const argv = ['node', '/app.mjs', 'load', '10.96.7.7', '70', String(forMs)];
  const { stdout, stderr } = await containers.n1.exec(web, argv, { timeoutMs: forMs + 60_000 });
  assert.notEqual(stdout, '', stderr);
  const { begun, greeted, errors } = JSON.parse(stdout) as { begun: number; greeted: number; errors: string[] };
  assert.ok(begun > forMs / 200, stdout);
  assert.deepEqual({ greeted, errors }, { greeted: begun, errors: [] });
  return begun;
}

function podText(name: string, namespace: string, account?: string): string {
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { app: ${name} } }
spec:
  ${account === undefined ? 'automountServiceAccountToken: false' : `serviceAccountName: ${account}`}
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, image: '${appImage}', command: [sleep, '36000'] }]
`;
}

async function restOf(outage: { readonly sinceMs: number }): Promise<void> {
  await delay(Math.max(0, outage.sinceMs + outageMs - performance.now()));
}

function seconds(ms: number): number {
  return Number((ms / 1000).toFixed(1));
}

test(
  'without an API server traffic goes on, agents and the controller come back after a crash, and all converges after it',
  { timeout: 400_000 },
  async (t: TestContext) => {
    await cluster.killApiServer();
    const outage = { sinceMs: performance.now() };
    let begun = await noneFails(15_000);
    assert.equal(await isGreeted('n2', 'near'), true);
    assert.equal(await isGreeted('n1', 'unmeshed'), false);
    const crashedAtMs = performance.now();
    await containers.n1.crash(agent);
    const backMs = await greetedAfterMs('n1', 'web', crashedAtMs);
    await containers.n1.crash({ container: 'controller' });
    const asked = await waitUntil(
      'the controller answers after its restart',
      async () => {
        const argv = ['culvert', 'check', '-o', 'json'];
        const { stdout } = await containers.n1.exec({ container: 'controller' }, argv);
        return stdout.startsWith('[') ? stdout : undefined;
      },
      90_000,
    );
    assert.match(asked, /Kubernetes API/);
    begun += await noneFails(15_000);
    assert.equal(await isGreeted('n1', 'unmeshed'), false);
    await restOf(outage);
    const crossing = noneFails(30_000);
    await cluster.startApiServer();
    const readyAtMs = performance.now();
    await kubectl.apply(podText('later', 'shop', 'default'));
    const rule = '{ action: allow, from: [{ serviceAccount: shop/default }], to: [{ serviceAccount: shop/db }] }';
    const text = `apiVersion: culvert.dev/v1\nkind: SegmentationRule\nmetadata: { name: later }\nspec: ${rule}\n`;
    await kubectl.apply(text);
    await kubectl.wait(['wait', '--for=condition=InForce', 'sr/later']);
    const convergedMs = await greetedAfterMs('n1', 'later', readyAtMs);
    begun += await crossing;
    await culvert.captures(4);
    await waitUntil('culvert check finds nothing', async () => {
      return (await culvert.checks()).every(({ state }) => state !== 'fail') || undefined;
    });
    await kubectl.succeed(['delete', 'sr', 'later']);
    await kubectl.succeed(['-n', 'shop', 'delete', 'pod', 'later', '--timeout=60s'], { timeoutMs: 90_000 });
    t.diagnostic(
      `0 of ${begun} new connections failed; an agent that crashed meanwhile serves after ${seconds(backMs)} s`,
    );
    t.diagnostic(`a rule and a pod made when it was back were in force after ${seconds(convergedMs)} s`);
    recordFigure('crashedAgentSeconds', seconds(backMs));
    recordFigure('apiServerBackSeconds', seconds(convergedMs));
  },
);

test(
  'without a controller traffic goes on, new pods of the mesh wait, and a rule of that time is in force after it',
  { timeout: 400_000 },
  async (t: TestContext) => {
    await kubectl.apply(podText('other', 'shop', 'default'));
    await kubectl.wait(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod/other']);
    await culvert.captures(4);
    assert.equal(await isGreeted('n1', 'other'), false);
    await kubectl.succeed(['scale', '--replicas=0', ...controller]);
    await kubectl.wait([
      '-n',
      'culvert-system',
      'wait',
      '--for=delete',
      'pod',
      '-l',
      'app.kubernetes.io/component=controller',
    ]);
    const outage = { sinceMs: performance.now() };
    let begun = await noneFails(15_000);
    await containers.n2.crash(agent);
    const backMs = await greetedAfterMs('n1', 'web');
    const rule = '{ action: allow, from: [{ serviceAccount: shop/default }], to: [{ serviceAccount: shop/db }] }';
    const text = `apiVersion: culvert.dev/v1\nkind: SegmentationRule\nmetadata: { name: meanwhile }\nspec: ${rule}\n`;
    await kubectl.apply(text);
    await kubectl.apply([podText('waiting', 'shop', 'default'), podText('free', 'default')].join('---\n'));
    await kubectl.wait(['-n', 'default', 'wait', '--for=condition=Ready', 'pod/free']);
    const about = 'involvedObject.name=waiting,reason=FailedCreatePodSandBox';
    const events = ['-n', 'shop', 'get', 'events', '--field-selector', about, '-o', 'jsonpath={.items[*].message}'];
    const said = await waitUntil(
      'kubelet says why the pod waits',
      async () => (await kubectl.succeed(events)) || undefined,
      60_000,
    );
    assert.match(said, /the controller has not told the agent of the pod/);
    begun += await noneFails(15_000);
    assert.equal(await isGreeted('n1', 'unmeshed'), false);
    await restOf(outage);
    const waiting = (await kubectl.json(['-n', 'shop', 'get', 'pod', 'waiting'])) as Pod;
    assert.equal(waiting.status.phase, 'Pending');
    assert.equal(await isGreeted('n1', 'other'), false);
    const crossing = noneFails(30_000);
    const startedAtMs = performance.now();
    await kubectl.succeed(['scale', '--replicas=1', ...controller]);
    const ruleMs = await greetedAfterMs('n1', 'other', startedAtMs);
    await kubectl.wait(['-n', 'shop', 'wait', '--for=condition=Ready', 'pod/waiting']);
    const podMs = await greetedAfterMs('n1', 'waiting', startedAtMs);
    begun += await crossing;
    await culvert.captures(5);
    await kubectl.succeed(['delete', 'sr', 'meanwhile']);
    await kubectl.succeed(['delete', 'pod', 'free', '--timeout=60s'], { timeoutMs: 90_000 });
    t.diagnostic(
      `0 of ${begun} new connections failed; an agent that crashed meanwhile serves after ${seconds(backMs)} s`,
    );
    t.diagnostic(
      `back after ${seconds(ruleMs)} s: the rule of that time; after ${seconds(podMs)} s: the pod that waited`,
    );
    recordFigure('controllerBackSeconds', seconds(ruleMs));
    recordFigure('waitingPodSeconds', seconds(podMs));
  },
);
