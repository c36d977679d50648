import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MeshCheck } from '../../../controller/cli/view/mesh-check.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import { soundCluster } from '../../support/controller/cluster-facts.js';
import { FakeKubectl, type FakeAnswer } from '../../support/controller/fake-kubectl.js';

/** How many rights are asked for is the installation's business: the answer is as long as the questions. */
const sound = soundCluster();

/** What kubectl says of a sound cluster. `rights`: of each question. */
function answers(rights: string): readonly FakeAnswer[] {
  return [
    { to: /^version -o json/, out: { clientVersion: {}, serverVersion: { gitVersion: sound.serverVersion } } },
    { to: /^api-resources -o name/, out: [...sound.served].join('\n') },
    { to: /^get nodes /, out: sound.nodes },
    { to: /^get namespaces /, out: sound.namespaces },
    { to: /^get daemonsets\.apps --all-namespaces/, out: sound.daemonSets },
    { to: /^get storageclasses/, out: sound.storageClasses },
    { to: /^get services -n kube-system/, out: sound.systemServices },
    { to: /^get configmap cilium-config -n kube-system/, out: { data: { 'cni-exclusive': 'true' } } },
    { to: /^create -f - -o jsonpath/, out: rights },
    { to: /^create --dry-run=server/, out: 'pod/culvert-check' },
    { to: /^get /, out: { items: [] } },
  ];
}

async function check(kubectl: FakeKubectl, args: readonly string[] = [], stdin = '') {
  const argv = ['check', '--pre', '--kubectl', kubectl.program, '-o', 'json', ...args];
  const { code, out, err } = await culvert(argv, { env: process.env, stdin });
  const checks = out === '' ? [] : (JSON.parse(out) as MeshCheck[]);
  return { code, err, found: checks.filter(({ state }) => state === 'warn' || state === 'fail'), checks };
}

/** How many questions about rights there are, in the order in which they are asked. */
async function questions(stdin = '', args: readonly string[] = []): Promise<readonly string[]> {
  using kubectl = new FakeKubectl(answers(''));
  await check(kubectl, args, stdin);
  const [asked] = kubectl.asked.filter(({ words }) => words.startsWith('create -f - -o jsonpath'));
  return (asked?.input ?? '').split('\n---\n');
}

test('a sound cluster passes, and nothing is stored there', async () => {
  const asked = await questions();
  using kubectl = new FakeKubectl(answers(asked.map(() => 'true').join('\n')));
  const { code, found, checks, err } = await check(kubectl);
  assert.deepEqual(found, [], err);
  assert.equal(code, 0);
  assert.ok(checks.length > 10);
  const changes = kubectl.asked.filter(({ words }) => /^(apply|create|delete|label|patch)/.test(words));
  for (const { words, input } of changes) {
    assert.ok(
      words.includes('--dry-run=server') || /^(\{.*"SelfSubjectAccessReview".*\}\n?(---\n)?)+$/.test(input),
      words,
    );
  }
  const [pod] = changes.filter(({ words }) => words.includes('--dry-run'));
  const { metadata, spec } = JSON.parse(pod?.input ?? '{}') as {
    metadata: { namespace: string };
    spec: { hostNetwork: boolean; priorityClassName: string; serviceAccountName: string };
  };
  assert.deepEqual(metadata, { name: 'culvert-check', namespace: 'default' });
  assert.equal(spec.serviceAccountName, 'default');
  assert.equal(spec.hostNetwork, true);
  assert.equal(spec.priorityClassName, 'system-node-critical');
});

test('a right that is missing is named and makes it fail; who may escalate needs none of those that are given', async () => {
  const asked = await questions();
  const isLast = (at: number): boolean => at === asked.length - 1;
  using kubectl = new FakeKubectl(answers(asked.map((_, at) => String(at > 3 && !isLast(at))).join('\n')));
  const { code, found } = await check(kubectl);
  assert.equal(code, 1);
  assert.equal(found.length, 1);
  assert.match(
    found[0]?.message ?? '',
    /^your account of the cluster may not watch daemonsets\.apps in culvert-system$/,
  );
  using administrators = new FakeKubectl(answers(asked.map((_, at) => String(!isLast(at))).join('\n')));
  assert.deepEqual((await check(administrators)).found, []);
});

test('objects that will be applied decide what is asked for', async () => {
  const { out: objects } = await culvert(['install', '--namespace', 'mesh', '--storage', 'empty-dir', '--no-cni']);
  const asked = await questions(objects, ['-f', '-']);
  assert.ok(asked.some((text) => text.includes('"namespace":"mesh"')));
  assert.ok(!asked.some((text) => text.includes('persistentvolumeclaims')));
  using kubectl = new FakeKubectl(answers(asked.map(() => 'true').join('\n')));
  const { code, found } = await check(kubectl, ['-f', '-'], objects);
  assert.equal(code, 0);
  assert.deepEqual(
    found.map(({ check }) => check),
    ['cni'],
  );
  assert.equal((await check(kubectl, ['-f', '-', '--strict'], objects)).code, 1);
  const foreign = await check(kubectl, ['-f', '-'], 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n');
  assert.equal(foreign.code, 64);
  assert.match(foreign.err, /no agent and no controller.*culvert install \| culvert check --pre/);
});

test('settings of Cilium are read in its namespace, and only where it is', async () => {
  const daemonSets = { items: [{ metadata: { name: 'cilium', namespace: 'kube-system' }, spec: {} }] };
  using kubectl = new FakeKubectl([{ to: /^get daemonsets\.apps --all-namespaces/, out: daemonSets }, ...answers('')]);
  const { found, code } = await check(kubectl);
  assert.equal(code, 1);
  assert.ok(found.some(({ check, state }) => check === 'cni' && state === 'fail'));
});

test('what may not be read is said in its place, and the rest is checked', async () => {
  const refusal = 'Error from server (Forbidden): nodes is forbidden: User "ann" cannot list resource "nodes"';
  using kubectl = new FakeKubectl([{ to: /^get nodes /, code: 1, err: refusal }, ...answers('')]);
  const { found, checks } = await check(kubectl);
  const sound = checks.filter(({ state }) => state === 'ok').map(({ check: name }) => name);
  assert.ok(!sound.some((name) => ['nodes', 'kernel', 'runtime', 'cni'].includes(name)), sound.join());
  const [nodes] = found.filter(({ check }) => check === 'nodes');
  assert.match(nodes?.message ?? '', /nodes cannot be read.*: nodes is forbidden: User "ann"/);
});

test('a cluster that does not say which kinds it serves is not taken for one that has none', async () => {
  const stale =
    'error: unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: stale GroupVersion';
  const refused: FakeAnswer = { to: /^api-resources/, out: 'pods', err: stale, code: 1 };
  using kubectl = new FakeKubectl([refused, ...answers('')]);
  const { found } = await check(kubectl);
  const of = (name: string): readonly MeshCheck[] => found.filter(({ check: each }) => each === name);
  assert.deepEqual(
    of('kinds').map(({ state }) => state),
    ['warn'],
  );
  assert.match(of('kinds')[0]?.message ?? '', /does not say all kinds.*metrics\.k8s\.io/);
  assert.match(of('policies')[0]?.message ?? '', /policies for all namespaces cannot be read.*metrics\.k8s\.io/);
});

test('settings of the network of pods that cannot be read are not checked', async () => {
  const daemonSets = {
    items: ['cilium', 'calico-node'].map((name) => ({
      metadata: { name, namespace: 'kube-system' },
      spec: { template: { spec: {} } },
    })),
  };
  const served = [...sound.served, 'felixconfigurations.crd.projectcalico.org'].join('\n');
  const err = 'Error from server (Forbidden): User "ann" cannot get this';
  using kubectl = new FakeKubectl([
    { to: /^api-resources/, out: served },
    { to: /^get daemonsets\.apps --all-namespaces/, out: daemonSets },
    { to: /^get (configmap|felixconfigurations)/, code: 1, err },
    ...answers(''),
  ]);
  const { found } = await check(kubectl);
  const messages = found.map(({ check: name, message }) => `${name}: ${message}`).join('\n');
  assert.match(messages, /^cni: settings of Cilium cannot be read, so this is not checked: User "ann"/m);
  assert.match(messages, /^services: settings of Cilium cannot be read/m);
  assert.match(messages, /^services: settings of Calico cannot be read/m);
});

test('what the API server says of a pod is said without what kubectl puts in front of it', async () => {
  const refusal =
    'Error from server (Forbidden): error when creating "STDIN": admission webhook "w" denied the request';
  using kubectl = new FakeKubectl([{ to: /^create --dry-run=server/, code: 1, err: refusal }, ...answers('')]);
  const { found } = await check(kubectl);
  const [admission] = found.filter(({ check: name }) => name === 'admission');
  assert.match(admission?.message ?? '', /is refused in default: admission webhook "w" denied the request$/);
});

test('a cluster that does not answer, and options without --pre, say what to do', async () => {
  const logged =
    'E1201 21:00:00.000000    4711 memcache.go:265] "Unhandled Error" err="couldn\'t get current server API"';
  const answer = { to: /^--context=prod version/, code: 1, err: `${logged}\n${logged}\nconnection refused` };
  using kubectl = new FakeKubectl([answer]);
  const { code, err } = await check(kubectl, ['--kube-context', 'prod']);
  assert.equal(code, 1);
  assert.match(err, /\/kubectl --context=prod version -o json.*: connection refused/);
  assert.match(err, /name your cluster: KUBECONFIG, or --kube-context/);
  assert.doesNotMatch(err, /memcache|goes on with what is left/);
  using other = new FakeKubectl([{ to: /^version/, out: 'hello' }]);
  const foreign = await check(other);
  assert.equal(foreign.code, 1);
  assert.match(foreign.err, /version -o json.*it printed "hello" in place of JSON/);
  assert.match(foreign.err, /--kubectl/);
  const without = await culvert(['check', '--kubectl', 'kubectl']);
  assert.equal(without.code, 64);
  assert.match(without.err, /are for --pre/);
});
