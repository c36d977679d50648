import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitUntil } from '../../../lab/wait-until.js';
import { isReady, type Pod, TestNamespace } from '../test-namespace.js';

/** What a mesh on Kubernetes relies on. */
let namespace: TestNamespace;
let nodes: readonly [string, string];

before(async () => {
  namespace = await TestNamespace.create();
  await namespace.apply('features');
  for (const name of ['echo', 'client']) await namespace.rolledOut(`daemonset/${name}`);
  nodes = await namespace.twoNodes('client');
});
after(async () => await namespace[Symbol.asyncDispose]());

test('a pod reaches a pod of another node in each family that both have, and is seen with its own address', async () => {
  const client = await namespace.podOn(nodes[0], 'client');
  const server = await namespace.podOn(nodes[1], 'echo');
  const own = client.status.podIPs ?? [];
  for (const [at, { ip }] of (server.status.podIPs ?? []).entries()) {
    const { sees, host } = await namespace.greeting(client.metadata.name, ip, 7000);
    assert.deepEqual({ host, sees }, { host: server.metadata.name, sees: own[at]?.ip });
  }
  assert.ok(own.length > 0);
});

test('a Service is reached by its name, with a target port that has a name', async () => {
  const client = await namespace.podOn(nodes[0], 'client');
  const servers = (await namespace.pods('echo')).map(({ metadata }) => metadata.name);
  const { host } = await namespace.greeting(client.metadata.name, 'echo', 70);
  assert.ok(servers.includes(host), host);
});

test('a token of a pod says its node and its pod, and only for its audience', async () => {
  const client = await namespace.podOn(nodes[1], 'client');
  const token = await namespace.run(['exec', client.metadata.name, '--', 'cat', '/token/token']);
  const { authenticated, user } = await review(token, 'culvert');
  assert.equal(authenticated, true);
  assert.equal(user?.username, `system:serviceaccount:${namespace.name}:agent`);
  const extra = Object.fromEntries(
    Object.entries(user?.extra ?? {}).map(([key, value]) => [key.replace('authentication.kubernetes.io/', ''), value]),
  );
  assert.deepEqual(extra['node-name'], [nodes[1]]);
  assert.deepEqual(extra['pod-name'], [client.metadata.name]);
  assert.deepEqual(extra['pod-uid'], [client.metadata.uid]);
  assert.notEqual((await review(token, 'another')).authenticated, true);
});

test('a DaemonSet with surge has the old pod, ready, until the new one on that node is ready', async () => {
  for (const pod of await surgePods()) await makeReady(pod);
  await namespace.rolledOut('daemonset/surge');
  const old = await surgePods();
  await namespace.run(['rollout', 'restart', 'daemonset/surge']);
  for (const [at] of old.entries()) {
    const fresh = await waitUntil('a new pod runs, not ready', async () => {
      return (await surgePods()).find((pod) => pod.status.phase === 'Running' && !isReady(pod));
    });
    const pods = await surgePods();
    const before = pods.filter(
      ({ spec, metadata }) => spec.nodeName === fresh.spec.nodeName && metadata.uid !== fresh.metadata.uid,
    );
    assert.deepEqual(
      before.map((pod) => [isReady(pod), pod.metadata.deletionTimestamp]),
      [[true, undefined]],
      `round ${at}`,
    );
    await makeReady(fresh);
    await waitUntil('the old pod on that node is gone', async () => {
      return (await surgePods()).some(({ metadata }) => metadata.uid === before[0]?.metadata.uid) ? undefined : true;
    });
  }
  await namespace.rolledOut('daemonset/surge');
});

test('a pod that is asked to end is terminating in its EndpointSlice, still serving, and no longer ready', async () => {
  const pod = await namespace.podOn(nodes[0], 'echo');
  await namespace.run(['delete', 'pod', pod.metadata.name, '--wait=false']);
  const conditions = await waitUntil('the endpoint of the pod is terminating', async () => {
    const found = (await endpoints()).find(({ targetRef }) => targetRef?.name === pod.metadata.name)?.conditions;
    return found?.['terminating'] === true ? found : undefined;
  });
  assert.deepEqual(conditions, { ready: false, serving: true, terminating: true });
  const client = await namespace.podOn(nodes[1], 'client');
  const { host } = await namespace.greeting(client.metadata.name, pod.status.podIP ?? '', 7000);
  assert.equal(host, pod.metadata.name);
});

type Review = {
  readonly authenticated?: boolean;
  readonly user?: { readonly username: string; readonly extra?: Readonly<Record<string, readonly string[]>> };
};

async function review(token: string, audience: string): Promise<Review> {
  const spec = { token, audiences: [audience] };
  const document = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec };
  const text = await namespace.run(['create', '-f', '-', '-o', 'json'], JSON.stringify(document));
  return (JSON.parse(text) as { readonly status: Review }).status;
}

type Endpoint = {
  readonly conditions: Readonly<Record<string, boolean>>;
  readonly targetRef?: { readonly name: string };
};

async function endpoints(): Promise<readonly Endpoint[]> {
  const selector = ['-l', 'kubernetes.io/service-name=echo'];
  const { items } = (await namespace.json(['get', 'endpointslices', ...selector])) as {
    readonly items: readonly { readonly endpoints: readonly Endpoint[] | null }[];
  };
  return items.flatMap(({ endpoints }) => endpoints ?? []);
}

/** Those of the two nodes that the tests use. */
async function surgePods(): Promise<readonly Pod[]> {
  return (await namespace.pods('surge')).filter(({ spec }) => nodes.includes(spec.nodeName));
}

async function makeReady({ metadata }: Pod): Promise<void> {
  await waitUntil(`${metadata.name} is told that it is ready`, async () => {
    await namespace.run(['exec', metadata.name, '--', 'sh', '-c', 'echo > /tmp/ready']);
    return true;
  });
}
