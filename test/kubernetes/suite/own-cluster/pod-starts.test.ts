import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { NodeCapture } from '../../cluster/node-capture.js';
import { isSoak, ownCluster } from '../../target.js';
import { recordFigure } from '../figures.js';
import type { Pod } from '../test-namespace.js';
import { cureNodes, type InstalledCulvert } from './installed-culvert.js';
import { appImage, onlyWebToDb, Shop } from './shop.js';

/** What a pod sends before its first process could, with the CNI plugin in the chain of each node. */
const cluster = ownCluster();
const { kubectl } = cluster;
const shop = new Shop(cluster);
/** Pods that start at the same time. */
const wave = 10;
const starts = isSoak() ? 1000 : 40;
let culvert: InstalledCulvert;

before(async () => {
  culvert = await shop.startInMesh();
  await culvert.culvert(['apply', '--wait', '120s', '-f', '-'], onlyWebToDb);
});
after(async () => {
  await culvert[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

type About = { readonly namespace?: string; readonly labels?: string; readonly spec?: string };

function podText(name: string, { namespace = 'shop', labels = '', spec = resting }: About = {}): string {
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: ${namespace}, labels: { app: starts${labels} } }
spec:
  ${namespace === 'shop' ? 'serviceAccountName: web' : 'automountServiceAccountToken: false'}
  nodeName: n1
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  ${spec}
---
`;
}

const resting = `containers: [{ name: main, image: '${appImage}', command: [sleep, '36000'] }]`;

/** Sends a word as the first thing that it does, in an init container and in the one after it. */
function saying(host: string, port: number): string {
  const container = (name: string): string =>
    `{ name: ${name}, image: '${appImage}', command: [node, /app.mjs, say, ${host}, '${port}', ${name}] }`;
  return `initContainers: [${container('init')}]\n  containers: [${container('main')}]`;
}

async function podsOf(namespace: string): Promise<readonly Pod[]> {
  const { items } = (await kubectl.json(['-n', namespace, 'get', 'pods', '-l', 'app=starts'])) as { items: Pod[] };
  return items;
}

async function phaseOf(name: string, namespace = 'shop'): Promise<string> {
  return (await kubectl.succeed(['-n', namespace, 'get', 'pod', name, '-o', 'jsonpath={.status.phase}'])).trim();
}

async function ready(name: string, namespace = 'shop'): Promise<void> {
  await kubectl.wait(['-n', namespace, 'wait', '--for=condition=Ready', `pod/${name}`]);
}

async function gone(...namespaces: readonly string[]): Promise<void> {
  for (const namespace of namespaces)
    await kubectl.succeed(['-n', namespace, 'delete', 'pod', '-l', 'app=starts', '--timeout=90s'], {
      timeoutMs: 120_000,
    });
}

/** How long the runtime took for the sandbox of a pod, in milliseconds: its network and all plugins. Null: it has not done it. */
async function sandboxMs(name: string, namespace = 'shop'): Promise<number | null> {
  const [{ metadata } = { metadata: { uid: 'none' } }] = (await podsOf(namespace)).filter(
    (pod) => pod.metadata.name === name,
  );
  const lines = cluster.node('n1').logOf('containerd', 100_000).split('\n');
  const about = lines.filter((line) => line.includes('RunPodSandbox for') && line.includes(metadata.uid));
  const at = (line = ''): number => Date.parse(/time="([^"]+)"/.exec(line)?.[1] ?? '');
  const end = about.find((line) => line.includes('returns sandbox id'));
  return end === undefined ? null : at(end) - at(about[0]);
}

/** What kubelet says of a pod without a sandbox. */
async function sandboxProblem(name: string, namespace = 'shop'): Promise<string> {
  const selector = `involvedObject.name=${name},reason=FailedCreatePodSandBox`;
  return await waitUntil(
    `kubelet says why ${name} does not start`,
    async () => {
      const argv = [
        '-n',
        namespace,
        'get',
        'events',
        '--field-selector',
        selector,
        '-o',
        'jsonpath={.items[*].message}',
      ];
      const said = await kubectl.succeed(argv);
      return said === '' ? undefined : said;
    },
    90_000,
  );
}

async function pluginsOnNode(): Promise<readonly string[]> {
  const text = await cluster.node('n1').succeed(['cat', '/etc/cni/net.d/10-bridge.conflist']);
  return (JSON.parse(text) as { plugins: { type: string }[] }).plugins.map(({ type }) => type);
}

describe('pods that start', () => {
  test(`${starts} pods put no byte of an application in the clear, also not those of init containers`, async (t) => {
    assert.equal((await pluginsOnNode()).at(-1), 'culvert-cni');
    await kubectl.apply(
      podText('plain-server', {
        namespace: 'default',
        spec: resting.replace("[sleep, '36000']", "[node, /app.mjs, server, '7000']"),
      }),
    );
    await ready('plain-server', 'default');
    const [server] = await podsOf('default');
    await using capture = await NodeCapture.start(cluster.plan, cluster.node('n1').plan, 'starts');
    const words: string[] = [];
    for (let first = 0; first < starts; first += wave) {
      const names = Array.from({ length: wave }, (_, index) => `starts-${first + index}`);
      await kubectl.apply(names.map((name) => podText(name, { spec: saying('10.96.7.7', 70) })).join(''));
      await waitUntil(
        `pods ${first} to ${first + wave - 1} have said what they had to`,
        async () =>
          (await podsOf('shop')).every(({ status }) => /Succeeded|Failed/.test(status.phase)) ? true : undefined,
        180_000,
      );
      const ended = await podsOf('shop');
      // Whatever the first process sends arrives, at the first try.
      assert.deepEqual(
        ended.filter(({ status }) => status.phase !== 'Succeeded').map(({ metadata }) => metadata.name),
        [],
      );
      assert.equal(ended.length, wave);
      words.push(...ended.flatMap(({ metadata: { name } }) => ['init', 'main'].map((word) => `clear ${name} ${word}`)));
      await gone('shop');
    }
    // What is sent in the clear is seen, so all before was.
    await kubectl.apply(podText('plain', { namespace: 'default', spec: saying(server?.status.podIP ?? '', 7000) }));
    await waitUntil(
      'the plain word is on the wire',
      () => (capture.contains('clear plain main') ? true : undefined),
      60_000,
    );
    const captured = await capture.stop();
    assert.ok(captured.includes('clear plain init'));
    assert.equal(words.length, 2 * starts);
    assert.deepEqual(
      words.filter((word) => captured.includes(word)),
      [],
    );
    t.diagnostic(`${starts} pods, ${(captured.length / 1e6).toFixed(1)} MB of packets`);
    await gone('default');
  });

  test(
    'the plugin costs little of a pod start, and a pod that is outside by its label starts at once',
    { timeout: 300_000 },
    async (t) => {
      const times = { inside: [] as number[], outside: [] as number[], elsewhere: [] as number[] };
      const kinds = {
        inside: {},
        outside: { labels: ", 'culvert.dev/mesh': disabled" },
        elsewhere: { namespace: 'default' },
      } as const;
      for (let round = 0; round < 8; round++) {
        for (const [kind, about] of Object.entries(kinds) as [keyof typeof kinds, About][]) {
          const name = `${kind}-${round}`;
          await kubectl.apply(podText(name, about));
          await ready(name, about.namespace);
          const took = await sandboxMs(name, about.namespace);
          assert.ok(took !== null, `containerd has made the sandbox of ${name}`);
          times[kind].push(took);
        }
      }
      const median = (kind: keyof typeof times): number => times[kind].toSorted((a, b) => a - b)[4] ?? 0;
      const added = median('inside') - median('elsewhere');
      t.diagnostic(
        `median of 8 sandboxes in a namespace of the mesh: ${median('inside')} ms, ${added} ms more than elsewhere`,
      );
      t.diagnostic(
        `outside by the label of the pod: ${median('outside')} ms; in another namespace: ${median('elsewhere')} ms`,
      );
      assert.ok(Math.max(...times.outside) < patientMs(3000), JSON.stringify(times));
      assert.ok(added < patientMs(80), JSON.stringify(times));
      recordFigure('podStartMs', added);
      await gone('shop', 'default');
    },
  );
});

test(
  'while a node has no agent pods of the mesh wait, also the first of their namespace, and run in it when it is back',
  { timeout: 600_000 },
  async () => {
    for (const [name, label] of [
      ['fresh', 'enabled'],
      ['free', 'disabled'],
    ] as const) {
      await kubectl.succeed(['create', 'namespace', name]);
      await kubectl.succeed(['label', 'namespace', name, `culvert.dev/mesh=${label}`]);
    }
    const list = (): Promise<string> => cluster.node('n1').succeed(['cat', '/var/lib/culvert/agent/cni-enrolled']);
    await waitUntil('the node knows the namespace', async () =>
      (await list()).includes('namespace fresh\n') ? true : undefined,
    );
    await placeAgents('n2');
    await kubectl.apply(['fresh', 'free', 'shop'].map((namespace) => podText('late', { namespace })).join(''));
    await ready('late', 'free');
    for (const namespace of ['shop', 'fresh']) {
      assert.match(
        await sandboxProblem('late', namespace),
        /belongs into the mesh, and the agent of this node does not answer/,
      );
      assert.equal(await phaseOf('late', namespace), 'Pending');
    }
    await placeAgents(null);
    for (const namespace of ['shop', 'fresh']) await ready('late', namespace);
    // shop has three others, and fresh this one.
    await culvert.captures(5);
    assert.match(await shop.greeting('shop/late'), /"host":"db-/);
    const record = await culvert.nextRecord('n1', (line) => line.sourceWorkload === 'shop/late');
    assert.equal(record.reason, 'OK');
    await gone('shop');
    await kubectl.succeed(['delete', 'namespace', 'fresh', 'free', '--timeout=120s'], { timeoutMs: 150_000 });
  },
);

test(
  'agents that are deleted after the controller leave pods of the mesh waiting, and one program on the node cures it',
  { timeout: 600_000 },
  async () => {
    // It would tell them to take the plugin out.
    for (const object of ['deployment/culvert-controller', 'daemonset/culvert-agent']) {
      const which = ['-n', 'culvert-system', 'delete', object, '--cascade=foreground', '--timeout=120s'];
      await kubectl.succeed(which, { timeoutMs: 150_000 });
    }
    await kubectl.apply([podText('orphan'), podText('orphan', { namespace: 'default' })].join(''));
    await ready('orphan', 'default');
    const problem = await sandboxProblem('orphan');
    assert.match(problem, /where Culvert was deleted, culvert-agent remove takes the plugin out/);
    // Pods that run can be deleted all the same.
    await kubectl.succeed(['-n', 'default', 'delete', 'pod', 'orphan', '--timeout=60s'], { timeoutMs: 90_000 });
    await cureNodes(cluster);
    assert.deepEqual(await pluginsOnNode(), ['bridge', 'portmap']);
    await ready('orphan');
    await culvert.applyAgain();
    await waitUntil('the plugin is back', async () =>
      (await pluginsOnNode()).at(-1) === 'culvert-cni' ? true : undefined,
    );
    await culvert.captures(4);
    await gone('shop');
  },
);

/** On which node agents may be; null: on every one. Resolves when they are there, and nowhere else. */
async function placeAgents(node: 'n2' | null): Promise<void> {
  const nodeSelector = { 'kubernetes.io/hostname': node };
  const patch = JSON.stringify({ spec: { template: { spec: { nodeSelector } } } });
  await kubectl.succeed(['-n', 'culvert-system', 'patch', 'daemonset', 'culvert-agent', '-p', patch]);
  await kubectl.wait(['-n', 'culvert-system', 'rollout', 'status', 'daemonset/culvert-agent']);
  await waitUntil(
    'agents are where they may be',
    async () => {
      const argv = ['-n', 'culvert-system', 'get', 'pods', '-l', 'app.kubernetes.io/component=agent', '-o', 'json'];
      const { items } = JSON.parse(await kubectl.succeed(argv)) as { items: Pod[] };
      return items.length === (node === null ? 2 : 1) || undefined;
    },
    120_000,
  );
}
