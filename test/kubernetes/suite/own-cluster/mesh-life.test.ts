import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { NodeContainers } from '../../cluster/node-containers.js';
import { ownCluster } from '../../target.js';
import { recordFigure } from '../figures.js';
import { isReady, type Pod } from '../test-namespace.js';
import type { InstalledCulvert } from './installed-culvert.js';
import { appImage, onlyWebToDb, Shop } from './shop.js';

/** Pods that come and go, agents that are replaced, and nodes that boot again, with the mesh on the cluster. */
const cluster = ownCluster();
const { kubectl } = cluster;
const shop = new Shop(cluster);
const strictReason = { reason: 'SOURCE_UNKNOWN', detail: 'plaintext, and the mesh is STRICT' };
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh();
  await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], onlyWebToDb);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

function podText(name: string, o: { labels?: string; account?: string } = {}): string {
  const { labels = '', account = 'web' } = o;
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name}${labels} } }
spec:
  serviceAccountName: ${account}
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, image: '${appImage}', command: [sleep, '36000'] }]
`;
}

async function started(name: string, o: Parameters<typeof podText>[1] = {}): Promise<void> {
  await kubectl.apply(podText(name, o));
  await kubectl.wait(['-n', 'shop', 'wait', '--for=condition=Ready', `pod/${name}`]);
}

async function gone(name: string): Promise<void> {
  await kubectl.succeed(['-n', 'shop', 'delete', 'pod', name, '--timeout=60s'], { timeoutMs: 90_000 });
}

/** db does not greet the pod, and the agent of a node says why. */
async function assertRefused(
  node: 'n1' | 'n2',
  pod: string,
  why: { readonly reason: string; readonly detail?: string },
): Promise<void> {
  const { items } = (await kubectl.json(['get', 'pods', '--all-namespaces'])) as { items: NamespacedPod[] };
  const found = items.find(({ metadata }) => `${metadata.namespace}/${metadata.name}` === pod);
  const address = found?.status.podIP ?? '';
  assert.doesNotMatch(await shop.greeting(pod), /"host"/);
  const isOf = (said: string | undefined): boolean => said?.startsWith(`${address}:`) ?? false;
  const record = await culvert.nextRecord(node, (line) => isOf(line.sourceAddress) || line.sourceWorkload === pod);
  const { reason, detail } = record;
  assert.deepEqual({ reason, ...(why.detail === undefined ? {} : { detail }) }, why, JSON.stringify(record));
}
type NamespacedPod = Pod & { readonly metadata: { readonly namespace: string } };

test('a pod that comes later is in the mesh by itself, and a rule decides what it may', async () => {
  await started('later');
  await culvert.captures(4);
  assert.match(await shop.greeting('shop/later'), /"host":"db-/);
  await started('other', { account: 'default' });
  await culvert.captures(5);
  await assertRefused('n1', 'shop/other', { reason: 'POLICY_DEFAULT_DENY' });
  await gone('later');
  await gone('other');
  await culvert.captures(3);
});

test('a pod that says so stays outside, and STRICT refuses it', async () => {
  await started('outside', { labels: ", 'culvert.dev/mesh': disabled" });
  await culvert.captures(3);
  await assertRefused('n2', 'shop/outside', strictReason);
  await gone('outside');
});

/** What web's connections to db came to while agents were replaced: none failed. */
async function replacedUnderLoad(replace: () => Promise<void>): Promise<Load> {
  const before = await agentPods();
  const loading = kubectl.exec('shop/web', ['node', '/app.mjs', 'load', '10.96.7.7', '70', '45000'], {
    timeoutMs: 120_000,
  });
  await replace();
  const after = await agentPods();
  assert.ok(after.every(({ metadata }) => !before.some((pod) => pod.metadata.uid === metadata.uid)));
  const { stdout } = await loading;
  const load = JSON.parse(stdout) as Load;
  const { begun, greeted, errors } = load;
  assert.ok(begun > 100, stdout);
  assert.deepEqual({ greeted, errors }, { greeted: begun, errors: [] });
  assert.deepEqual(
    after.flatMap(({ status }) => status.containerStatuses ?? []).map(({ restartCount }) => restartCount),
    [0, 0],
  );
  return load;
}

test('agents are replaced one after another, and no new connection fails', async () => {
  const { begun, longestMs } = await replacedUnderLoad(async () => {
    await kubectl.succeed(['-n', 'culvert-system', 'rollout', 'restart', 'daemonset/culvert-agent']);
    await kubectl.wait(['-n', 'culvert-system', 'rollout', 'status', 'daemonset/culvert-agent']);
  });
  recordFigure('restartedConnections', begun);
  recordFigure('restartLongestMs', longestMs);
});

type Process = {
  readonly program: string;
  readonly uid: number;
  readonly capabilities: string;
  readonly limits: string;
};

/** Those of the agent's container on a node. */
async function processesOf(node: 'n1' | 'n2'): Promise<readonly Process[]> {
  const script = `const fs = require('fs');
const all = fs.readdirSync('/proc').filter((name) => Number(name) > 0 && Number(name) !== process.pid);
console.log(JSON.stringify(all.map((pid) => {
  const lines = fs.readFileSync('/proc/' + pid + '/status', 'utf8').split('\\n');
  const of = (key) => lines.find((line) => line.startsWith(key + ':')).split('\\t')[1];
  const program = fs.readFileSync('/proc/' + pid + '/cmdline', 'utf8').split('\\0')[0].split('/').pop();
  const capabilities = ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'].map((key) => parseInt(of(key), 16).toString(16)).join();
  return { program, uid: Number(of('Uid')), capabilities, limits: of('NoNewPrivs') + of('Seccomp') };
})));`;
  const { stdout } = await new NodeContainers(cluster.node(node)).exec({ container: 'agent' }, ['node', '-e', script]);
  const found = JSON.parse(stdout) as readonly Process[];
  // A probe may run, or the runtime begin one.
  return found.filter(({ program }) => program !== 'sh' && program !== 'runc');
}

/** NET_ADMIN and SYS_ADMIN; with CHOWN and DAC_OVERRIDE. */
const [acting, actingAndOwning] = ['201000', '201003'];
const limits = '12';
const installer = { program: 'culvert-cni-install', uid: 0, capabilities: '0,2,2,0', limits };
const processesAs = {
  split: [
    { program: 'node', uid: 64_001, capabilities: '0,0,0,0', limits },
    installer,
    { program: 'culvert-helper', uid: 0, capabilities: `0,${acting},${acting},0`, limits },
  ],
  whole: [{ program: 'node', uid: 0, capabilities: `0,${actingAndOwning},${actingAndOwning},0`, limits }, installer],
};

test('what parses the network has no capability on a node, and its helper has two', async () => {
  for (const node of ['n1', 'n2'] as const) assert.deepEqual(await processesOf(node), processesAs.split);
});

test('agents become one process, and two again, and no new connection fails', async () => {
  for (const kind of ['whole', 'split'] as const) {
    await replacedUnderLoad(() => culvert.change(['--agent-privileges', kind]));
    await gonePods();
    for (const node of ['n1', 'n2'] as const) assert.deepEqual(await processesOf(node), processesAs[kind], kind);
  }
});

/** Of agents that were replaced. */
async function gonePods(): Promise<void> {
  const pods = ['-n', 'culvert-system', 'get', 'pods', '-l', 'app.kubernetes.io/component=agent', '-o', 'name'];
  const areTwo = async (): Promise<true | undefined> =>
    (await kubectl.succeed(pods)).trim().split('\n').length === 2 || undefined;
  await waitUntil('the agents before have ended', areTwo, 90_000);
}

type Load = {
  readonly begun: number;
  readonly greeted: number;
  readonly longestMs: number;
  readonly errors: readonly string[];
};

test('an agent that hangs is not ready, and is again when it goes on', async () => {
  const [pod] = (await agentPods()).filter(({ spec }) => spec.nodeName === 'n2');
  const name = `pod/${pod?.metadata.name ?? ''}`;
  await new NodeContainers(cluster.node('n2')).signal({ container: 'agent' }, 'SIGSTOP');
  try {
    await kubectl.wait(['-n', 'culvert-system', 'wait', '--for=condition=Ready=false', name]);
  } finally {
    await new NodeContainers(cluster.node('n2')).signal({ container: 'agent' }, 'SIGCONT');
  }
  await kubectl.wait(['-n', 'culvert-system', 'wait', '--for=condition=Ready', name]);
  assert.match(await shop.greeting('shop/web'), /"host":"db-/);
});

test('the agent of a node and the controller stay within their memory', async (t: TestContext) => {
  const megabytes = async (node: 'n1' | 'n2', container: string): Promise<number> => {
    const script = `const [, kb] = /VmRSS:\\s+(\\d+)/.exec(require('fs').readFileSync('/proc/1/status', 'utf8')); console.log(kb)`;
    const { stdout } = await new NodeContainers(cluster.node(node)).exec({ container }, ['node', '-e', script]);
    return Math.round(Number(stdout) / 1024);
  };
  const agents = await Promise.all([megabytes('n1', 'agent'), megabytes('n2', 'agent')]);
  const controller = await megabytes('n1', 'controller');
  t.diagnostic(`agents ${agents.join(' and ')} MB, controller ${controller} MB`);
  assert.ok(Math.max(...agents) < 400 && controller < 600, `${agents.join(', ')}, ${controller} MB`);
  recordFigure('agentMegabytes', Math.max(...agents));
  recordFigure('controllerMegabytes', controller);
});

test('a node that boots again has its pods in the mesh again, without a document', async (t: TestContext) => {
  await cluster.node('n2').unplug();
  const startedAtMs = performance.now();
  await cluster.bootAgain('n2');
  await kubectl.wait(['wait', '--for=condition=Ready', 'node/n2']);
  await waitUntil(
    'db runs again',
    async () => {
      const { items } = (await kubectl.json(['-n', 'shop', 'get', 'pods', '-l', 'app=db'])) as { items: Pod[] };
      const [container] = items.flatMap(({ status }) => status.containerStatuses ?? []);
      return (items.every(isReady) && (container?.restartCount ?? 0) > 0) || undefined;
    },
    120_000,
  );
  await waitUntil('db greets web', async () => (await shop.greeting('shop/web')).includes('"host":"db-') || undefined);
  const tookSeconds = Number(((performance.now() - startedAtMs) / 1000).toFixed(1));
  t.diagnostic(`reached ${tookSeconds} s after power on`);
  recordFigure('rebootSeconds', tookSeconds);
  await culvert.captures(3);
  await assertRefused('n2', 'default/unmeshed', strictReason);
});

async function agentPods(): Promise<readonly Pod[]> {
  const selector = ['-l', 'app.kubernetes.io/component=agent'];
  const { items } = (await kubectl.json(['-n', 'culvert-system', 'get', 'pods', ...selector])) as { items: Pod[] };
  return items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}
