import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { patience } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { NodeContainers } from '../../cluster/node-containers.js';
import { ownCluster } from '../../target.js';
import type { InstalledCulvert } from './installed-culvert.js';
import { Shop } from './shop.js';

/** Two controllers with one state directory of a node: one serves, the other takes over. */
const cluster = ownCluster();
const { kubectl } = cluster;
const system = ['-n', 'culvert-system'] as const;
const shop = new Shop(cluster);
/** Two thirds of the lease and the rest of it, a try, the start of a controller, and the restart of a container. */
const takeOverMs = 30_000;
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh(['--replicas', '2']);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

/** The pod that serves, as the Lease says. */
async function active(): Promise<string> {
  const lease = [...system, 'get', 'lease', 'culvert-controller', '-o', 'jsonpath={.spec.holderIdentity}'];
  return await waitUntil('a controller has the lease', async () => {
    return (await kubectl.succeed(lease)).split('_')[0] || undefined;
  });
}

type Slice = { readonly endpoints: readonly { readonly targetRef?: { readonly name: string } }[] | null };

/** Where the Service leads, by what the endpoints of its slices are. */
async function servicePods(): Promise<readonly string[]> {
  const slices = ['get', 'endpointslices', '-l', 'kubernetes.io/service-name=culvert-controller'];
  const { items } = (await kubectl.json([...system, ...slices])) as { readonly items: readonly Slice[] };
  // A pod has a slice for each family of its addresses.
  return [...new Set(items.flatMap(({ endpoints }) => endpoints ?? []).map(({ targetRef }) => targetRef?.name ?? ''))];
}

function rule(name: string): string {
  return `apiVersion: culvert.dev/v1\nkind: SegmentationRule\nmetadata: { name: ${name} }\nspec: { action: allow, ports: [70] }\n`;
}

/** Applies a rule until a controller takes it, and how long that was. */
async function applied(name: string): Promise<number> {
  const startedAtMs = performance.now();
  await waitUntil(
    `the rule ${name} is in force`,
    async () => {
      await kubectl.run(['apply', '-f', '-'], { input: rule(name) });
      const wait = ['wait', '--for=condition=InForce', `sr/${name}`, '--timeout=1s'];
      return (await kubectl.run(wait)).code === 0 || undefined;
    },
    120_000,
  );
  return performance.now() - startedAtMs;
}

/** Ends the controller in a pod of the first node, without a word. */
async function kill(pod: string): Promise<void> {
  await new NodeContainers(cluster.nodes[0]).signal({ pod, container: 'controller' }, 'SIGKILL');
}

/** What web got of db, all the time until it is stopped: false is a connection that failed. */
async function askedMeanwhile<T>(run: () => Promise<T>): Promise<{ readonly result: T; readonly answers: boolean[] }> {
  const answers: boolean[] = [];
  const stop = new AbortController();
  const asking = (async (): Promise<void> => {
    while (!stop.signal.aborted) {
      answers.push(await shop.isGreeted('shop/web'));
    }
  })();
  const result = await run().finally(() => stop.abort());
  await asking;
  return { result, answers };
}

test('both are ready, one serves, and the Service leads to that one only', async () => {
  const serving = await active();
  await waitUntil('the Service leads there', async () => {
    const pods = await servicePods();
    return (pods.length === 1 && pods[0] === serving) || undefined;
  });
  const status = ['get', 'deployment', 'culvert-controller', '-o', 'jsonpath={.status.readyReplicas}'];
  await waitUntil('both are ready', async () => (await kubectl.succeed([...system, ...status])) === '2' || undefined);
  const said = new RegExp(
    `^replicas    ${serving} on \\S+ has served for \\w+; culvert-controller-\\S+ on \\S+ has stood by for`,
    'm',
  );
  await waitUntil('the status says both', async () => said.test(await culvert.culvert(['status'])) || undefined);
});

test('the one that serves is killed: traffic goes on, rules can be applied again soon, and none is lost', async () => {
  for (const name of ['a', 'b']) await applied(name);
  const before = await active();
  const { result: tookMs, answers } = await askedMeanwhile(async () => {
    await kill(before);
    return await applied('c');
  });
  console.log(`rules were in force again ${Math.round(tookMs)} ms after the kill; ${answers.length} connections`);
  assert.ok(tookMs < takeOverMs * patience(), `${tookMs} ms`);
  assert.ok(answers.length > 0 && answers.every(Boolean), `${answers.filter((each) => !each).length} failed`);
  assert.notEqual(await active(), before);
  const rules = await culvert.culvert(['get', 'rules']);
  for (const name of ['a', 'b', 'c']) assert.match(rules, new RegExp(`\\b${name}\\b`));
});

test('the one that serves is deleted: the other has its turn without waiting for the lease to end', async () => {
  const before = await active();
  await kubectl.succeed([...system, 'delete', 'pod', before, '--timeout=100s'], { timeoutMs: 120_000 });
  const tookMs = await applied('d');
  console.log(`rules were in force again ${Math.round(tookMs)} ms after the pod was gone`);
  assert.ok(tookMs < takeOverMs * patience(), `${tookMs} ms`);
  assert.notEqual(await active(), before);
  await culvert.applyAgain();
  await kubectl.succeed(['delete', 'sr', '--all']);
});

test('back to one controller: the Service leads to it by its labels, and the slice of the other goes', async () => {
  await culvert.change([]);
  await waitUntil('one endpoint is left', async () => ((await servicePods()).length === 1 ? true : undefined), 90_000);
  await applied('e');
});
