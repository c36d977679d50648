import assert from 'node:assert/strict';
import { test } from 'node:test';
import { installObjects } from '../../../controller/install/install-objects.js';
import { defaultValues, realNodes } from '../../../controller/install/install-options.js';
import { culvert } from '../../support/controller/cli-fixture.js';
import { installValueSets } from '../../support/controller/install-value-sets.js';
import { FakeKubectl, type FakeAnswer } from '../../support/controller/fake-kubectl.js';

const values = {
  ...defaultValues('1'),
  image: 'r.test/culvert:1',
  imagePullSecrets: [{ name: 'registry' }],
  cni: { enabled: true, configDirectory: '/k3s/net.d', binDirectory: '/k3s/bin' },
};
const daemonSet = installObjects(values).find(({ kind }) => kind === 'DaemonSet');
assert.ok(daemonSet);
const none = { items: [] };
const shop = { kind: 'Namespace', metadata: { name: 'shop' } };
const own = {
  kind: 'Namespace',
  metadata: { name: 'culvert-system', labels: { 'app.kubernetes.io/part-of': 'culvert' } },
};
const status = (enrolled: number): string => JSON.stringify({ kubernetes: { enrolled } });

const config = { contexts: [{ name: 'prod' }], clusters: [{ cluster: { server: 'https://k8s.test:6443' } }] };

/** A cluster with an installation, all of which goes when it is asked to. */
const installed: readonly FakeAnswer[] = [
  { to: /config view --minify/, out: config },
  { to: /get .*daemonset culvert-agent/, out: daemonSet },
  { to: /get namespaces -l culvert/, out: { items: [shop] } },
  { to: /get .*pods .*culvert-cleanup/, out: { items: [{ kind: 'Pod', metadata: { name: 'a' } }] } },
  { to: /get namespace culvert-system/, out: own },
  { to: /get .* -o json$/, out: none },
  { to: /exec deployment\/culvert-controller/, out: status(0) },
  { to: /api-resources/, out: 'pods\nservices' },
];

async function uninstalled(kubectl: FakeKubectl, ...more: readonly string[]) {
  return await culvert(['uninstall', '--kubectl', kubectl.program, '--timeout', '1s', ...more], { env: process.env });
}

test('without --yes it says what it would do and in which cluster, and changes nothing', async () => {
  using kubectl = new FakeKubectl(installed);
  const { code, out } = await uninstalled(kubectl);
  assert.equal(code, 0);
  assert.match(out, /Nothing was done.*--yes/);
  assert.match(out, /The cluster is context prod, https:\/\/k8s\.test:6443\. /);
  for (const { words } of kubectl.asked) assert.match(words, /^(version -o json|config view)/);
});

test('it fails without a cluster, also without --yes, and leaves out what kubectl logs', async () => {
  const logged = 'E1201 21:00:00.000000    4711 memcache.go:265] "Unhandled Error" err="no server"';
  const refused = 'The connection to the server localhost:8080 was refused';
  for (const more of [[], ['--yes']]) {
    using kubectl = new FakeKubectl([{ to: /version/, code: 1, err: `${logged}\n${refused}` }, ...installed]);
    const { code, err } = await uninstalled(kubectl, '--kube-context', 'away', ...more);
    assert.equal(code, 1);
    assert.match(err, /kubectl --context=away version .*: The connection to the server localhost:8080 was refused/);
    assert.match(err, /name your cluster: KUBECONFIG, or --kube-context/);
    assert.doesNotMatch(err, /memcache/);
    assert.equal(kubectl.asked.length, 1);
  }
});

test('the image that cleans nodes is fetched with the secrets that are named', async () => {
  using kubectl = new FakeKubectl([{ to: /get .*daemonset culvert-agent/, out: '' }, ...installed]);
  await uninstalled(kubectl, '--yes', '--image', 'r.test/other:1', '--image-pull-secret', 'mine');
  assert.equal(cleaning(kubectl).image, 'r.test/other:1');
  assert.deepEqual(cleaning(kubectl).imagePullSecrets, [{ name: 'mine' }]);
});

test('labels, agents, what is on the nodes and objects go in this order, and then it looks for what is left', async () => {
  // The label is gone when it looks again.
  using kubectl = new FakeKubectl(installed.filter(({ out }) => !JSON.stringify(out ?? '').includes('shop')));
  const { code, out, err } = await uninstalled(kubectl, '--yes');
  assert.equal(code, 0, err);
  const changes = kubectl.asked
    .map(({ words }) => words)
    .filter((words) => /\b(label|delete|apply|rollout)\b/.test(words));
  const order = [
    /delete validatingwebhookconfigurations\S* -l app.kubernetes.io\/part-of=culvert/,
    /delete daemonset culvert-agent .*--cascade=foreground/,
    /apply -f -/,
    /rollout status daemonset\/culvert-cleanup/,
    /delete daemonset culvert-cleanup/,
    /delete .*clusterroles.* -l app.kubernetes.io\/part-of=culvert/,
    /delete namespace culvert-system/,
  ];
  assert.equal(changes.length, order.length, changes.join('\n'));
  for (const [index, pattern] of order.entries()) assert.match(changes[index] ?? '', pattern);
  assert.match(out, /are off 1 node\n/);
  assert.match(out, /^The cluster is context prod, https:\/\/k8s\.test:6443\.\n/);
  assert.match(out, /✔ nothing of Culvert is left$/);
});

test('it says where the state of a controller stays that is in a directory of a node', async () => {
  const storage = {
    kind: 'host-path',
    accessMode: 'ReadWriteOnce',
    size: '1Gi',
    className: '',
    path: '/srv/culvert',
  } as const;
  const controller = { ...values.controller, storage, nodeSelector: { disk: 'fast' } };
  const deployment = installObjects({ ...values, controller }).find(({ kind }) => kind === 'Deployment');
  const answer = { to: /get .*deployment culvert-controller/, out: deployment ?? {} };
  using kubectl = new FakeKubectl([
    answer,
    ...installed.filter(({ out }) => !JSON.stringify(out ?? '').includes('shop')),
  ]);
  const { code, out, err } = await uninstalled(kubectl, '--yes');
  assert.equal(code, 0, err);
  assert.match(
    out,
    /\n✔ the controller's state, with the CA, stays in \/srv\/culvert of its node \(disk=fast\): remove it there\n/,
  );
});

type CleaningPod = {
  readonly serviceAccountName: string;
  readonly imagePullSecrets: unknown;
  readonly affinity: { readonly nodeAffinity: object };
  readonly initContainers: readonly {
    readonly image: string;
    readonly command: readonly string[];
    readonly securityContext: { readonly seLinuxOptions?: object };
  }[];
};

/** Of the DaemonSet in what is applied, which has its account too. */
function cleaningPod(input = ''): CleaningPod {
  const { items } = JSON.parse(input) as {
    items: [account: { metadata: { name: string } }, { spec: { template: { spec: CleaningPod } } }];
  };
  const [account, { spec }] = items;
  assert.equal(spec.template.spec.serviceAccountName, account.metadata.name);
  return spec.template.spec;
}

test('nodes that run no DaemonSet are not waited for: what cleans goes where agents can be, and as what SELinux lets in', async () => {
  const placed = async (agents: unknown, ...more: readonly string[]) => {
    using kubectl = new FakeKubectl([{ to: /get .*daemonset culvert-agent/, out: agents as object }, ...installed]);
    await uninstalled(kubectl, '--yes', ...more);
    const pod = cleaningPod(kubectl.asked.find(({ words }) => words === 'apply -f -')?.input);
    return { affinity: pod.affinity, seLinux: pod.initContainers[0]?.securityContext.seLinuxOptions };
  };
  const usual = { affinity: { nodeAffinity: realNodes }, seLinux: { type: 'spc_t' } };
  assert.deepEqual(await placed(daemonSet), usual);
  assert.deepEqual(await placed('', '--image', 'r.test/culvert:2'), usual);
  const nodeAffinity = {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [{ matchExpressions: [{ key: 'example.net/virtual', operator: 'DoesNotExist' }] }],
    },
  };
  // A node that had an agent before the selector left it out is cleaned too.
  const agent = { ...values.agent, nodeAffinity, nodeSelector: { mesh: 'yes' }, seLinuxType: '' };
  const own = installObjects({ ...values, agent }).find(({ kind }) => kind === 'DaemonSet');
  assert.deepEqual(await placed(own), { affinity: { nodeAffinity }, seLinux: undefined });
  // Of a version before this one.
  const old = JSON.parse(JSON.stringify(daemonSet)) as { spec: { template: { spec: { affinity?: object } } } };
  delete old.spec.template.spec.affinity;
  assert.deepEqual((await placed(old)).affinity, { nodeAffinity: realNodes });
});

/** How nodes are cleaned. */
function cleaning(kubectl: FakeKubectl) {
  const [applied] = kubectl.asked.filter(({ words }) => words === 'apply -f -');
  const { imagePullSecrets, initContainers } = cleaningPod(applied?.input);
  const [, directories] = / (--cni-config-dir=.*) && /.exec(initContainers[0]?.command.at(-1) ?? '') ?? [];
  return { imagePullSecrets, image: initContainers[0]?.image, directories };
}

const asTheAgents = {
  imagePullSecrets: [{ name: 'registry' }],
  image: 'r.test/culvert:1',
  directories: '--cni-config-dir=/k3s/net.d --cni-bin-dir=/k3s/bin',
};

test('nodes are cleaned with the image, the secrets and the directories that the agents had', async () => {
  using kubectl = new FakeKubectl(installed);
  const { out } = await uninstalled(kubectl, '--yes');
  assert.deepEqual(cleaning(kubectl), asTheAgents);
  assert.match(out, /the CNI plugin in \/k3s\/net\.d and \/k3s\/bin, and state are off 1 node\n/);
});

test('a run after one that a node has ended cleans with the same, though the agents are gone', async () => {
  const pod = { kind: 'Pod', metadata: { name: 'c-1' }, spec: { nodeName: 'n2' }, status: { phase: 'Pending' } };
  using first = new FakeKubectl([
    { to: /rollout status/, code: 1, err: 'timed out' },
    { to: /get .*pods .*culvert-cleanup/, out: { items: [pod] } },
    ...installed,
  ]);
  const { code, err } = await uninstalled(first, '--yes');
  assert.equal(code, 1);
  assert.match(err, /run the command again/);
  const changes = first.asked.map(({ words }) => words).filter((words) => /annotate|delete daemonset/.test(words));
  assert.match(changes[1] ?? '', /delete daemonset culvert-agent/, 'it is recorded before they go');
  const [, key = '', text = ''] =
    /^annotate --overwrite namespace culvert-system ([^=]*)=(.*)$/.exec(changes[0] ?? '') ?? [];

  const recorded = { ...own, metadata: { ...own.metadata, annotations: { [key]: text } } };
  const later: readonly FakeAnswer[] = [
    { to: /get .*daemonset culvert-agent/, out: '' },
    { to: /get namespace culvert-system/, out: recorded },
    ...installed.filter(({ out }) => !JSON.stringify(out ?? '').includes('shop')),
  ];
  using second = new FakeKubectl(later);
  const again = await uninstalled(second, '--yes');
  assert.equal(again.code, 0, again.err);
  assert.deepEqual(cleaning(second), asTheAgents);

  using named = new FakeKubectl(later);
  await uninstalled(named, '--yes', '--image', 'r.test/culvert:2');
  assert.deepEqual(cleaning(named), { ...asTheAgents, image: 'r.test/culvert:2' });
});

test('a namespace that is not of Culvert stays, without what was recorded there', async () => {
  const shared = { kind: 'Namespace', metadata: { name: 'culvert-system' } };
  using kubectl = new FakeKubectl([{ to: /get namespace culvert-system/, out: shared }, ...installed]);
  await uninstalled(kubectl, '--yes');
  const annotated = kubectl.asked.filter(({ words }) => words.startsWith('annotate'));
  assert.match(annotated.at(-1)?.words ?? '', /^annotate namespace culvert-system culvert\.dev\/cleanup-$/);
  assert.ok(!kubectl.asked.some(({ words }) => words.includes('delete namespace')));
});

test('what is left is named, and makes it fail', async () => {
  // The label of shop comes back.
  using kubectl = new FakeKubectl(installed);
  const { code, err } = await uninstalled(kubectl, '--yes');
  assert.equal(code, 1);
  assert.match(err, /these are still there: Namespace shop .*\[UNINSTALL_INCOMPLETE\]/);
});

test('a pod that has the label from its template is named with what makes it again', async () => {
  const ownerReferences = [{ kind: 'ReplicaSet', name: 'web-5d4' }];
  const pod = { kind: 'Pod', metadata: { namespace: 'shop', name: 'web-5d4-x', ownerReferences } };
  using kubectl = new FakeKubectl([
    { to: /get pods --all-namespaces -l culvert/, out: { items: [pod] } },
    ...installed.filter(({ out }) => !JSON.stringify(out ?? '').includes('shop')),
  ]);
  const { code, err } = await uninstalled(kubectl, '--yes');
  assert.equal(code, 1);
  assert.match(err, /still there: Pod shop\/web-5d4-x \(made by ReplicaSet web-5d4\) .*label out of the template/);
});

test('webhooks and rights that users have made for Culvert without its label are left too', async () => {
  const service = { namespace: 'culvert-system', name: 'culvert-controller', port: 15_443 };
  const account = { kind: 'ServiceAccount', name: 'culvert-controller', namespace: 'culvert-system' };
  const webhook = (name: string, clientConfig: object): object => ({
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name },
    webhooks: [{ name: 'rules.culvert.dev', clientConfig }],
  });
  const binding = (name: string, ...subjects: readonly object[]): object => ({
    kind: 'ClusterRoleBinding',
    metadata: { name },
    subjects,
  });
  const items = [
    webhook('rules', { service }),
    webhook('another', { service: { ...service, namespace: 'elsewhere' } }),
    webhook('outside', { url: 'https://hook.test/' }),
    { kind: 'ValidatingWebhookConfiguration', metadata: { name: 'empty' } },
    binding('reads-policies', { kind: 'User', name: 'ann' }, account),
    binding('another-account', { ...account, name: 'default' }, { ...account, namespace: 'elsewhere' }),
    {
      kind: 'RoleBinding',
      metadata: { name: 'more', namespace: 'shop' },
      subjects: [{ ...account, name: 'culvert-agent' }],
    },
  ];
  using kubectl = new FakeKubectl([
    { to: /get validatingweb\S*,clusterrolebindings\S*,rolebindings\S* --all-namespaces -o json$/, out: { items } },
    ...installed.filter(({ out }) => !JSON.stringify(out ?? '').includes('shop')),
  ]);
  const { code, err } = await uninstalled(kubectl, '--yes');
  assert.equal(code, 1);
  const what = 'ValidatingWebhookConfiguration rules, ClusterRoleBinding reads-policies, RoleBinding shop/more';
  assert.ok(err.includes(`these are still there: ${what} `), err);
});

test('uninstall deletes every kind that an installation may have, by the label that each object has', async () => {
  const shared = { kind: 'Namespace', metadata: { name: 'culvert-system' } };
  using kubectl = new FakeKubectl([
    { to: /get namespace culvert-system/, out: shared },
    { to: /api-resources/, out: 'podmonitors.monitoring.coreos.com\nprometheusrules.monitoring.coreos.com' },
    ...installed,
  ]);
  await uninstalled(kubectl, '--yes');
  const deleted = kubectl.asked.map(({ words }) => words).filter((words) => /^(-n \S+ )?delete .* -l /.test(words));
  const kinds = deleted.flatMap((words) => words.replace(/ -l .*/, '').split(/[ ,]/)).map((kind) => kind.split('.')[0]);
  const objects = Object.values(installValueSets).flatMap((set) => installObjects(set));
  assert.ok(objects.some(({ kind }) => kind === 'ValidatingWebhookConfiguration'));
  for (const { kind, metadata } of objects.filter((each) => each.kind !== 'Namespace')) {
    const plural = `${kind.toLowerCase()}s`.replace(/ys$/, 'ies');
    assert.ok(kinds.includes(plural), `${plural} of ${kinds.join(' ')}`);
    const { labels } = metadata as unknown as { readonly labels: Record<string, string> };
    assert.equal(labels['app.kubernetes.io/part-of'], 'culvert');
  }
});

test('a node that cannot be cleaned is named with what its pod says, and nothing else is deleted', async () => {
  const pod = { kind: 'Pod', metadata: { name: 'c-1' }, spec: { nodeName: 'n2' }, status: { phase: 'Pending' } };
  using kubectl = new FakeKubectl([
    { to: /rollout status/, code: 1, err: 'timed out' },
    { to: /get .*pods .*culvert-cleanup/, out: { items: [pod] } },
    { to: /logs c-1/, out: 'culvert-agent: capture is still in place' },
    ...installed,
  ]);
  const { code, err } = await uninstalled(kubectl, '--yes');
  assert.equal(code, 1);
  assert.match(err, /not every node is clean: n2: culvert-agent: capture is still in place/);
  assert.ok(!kubectl.asked.some(({ words }) => words.includes('delete namespace')));
});

test('without agents the image has to be named; the namespace is made where it is gone; no controller is needed', async () => {
  const gone: readonly FakeAnswer[] = [
    { to: /get .*daemonset culvert-agent/, out: '' },
    { to: /get namespace culvert-system/, out: '' },
    { to: /exec deployment/, code: 1, err: 'not found' },
    ...installed.filter(({ out }) => !JSON.stringify(out ?? '').includes('shop')),
  ];
  using without = new FakeKubectl(gone);
  const refused = await uninstalled(without, '--yes');
  assert.equal(refused.code, 64);
  assert.match(refused.err, /name the image of Culvert with --image/);
  using kubectl = new FakeKubectl(gone);
  const { code, out, err } = await uninstalled(kubectl, '--yes', '--image', 'r.test/culvert:2');
  assert.equal(code, 0, err);
  assert.match(out, /the controller does not answer/);
  const [created, applied] = kubectl.asked.filter(({ input }) => input !== '');
  assert.match(created?.input ?? '', /"kind":"Namespace".*privileged/);
  assert.match(applied?.input ?? '', /r\.test\/culvert:2/);
});

test('a kubectl that is missing, and one that refuses, say what to do', async () => {
  const missing = await culvert(['uninstall', '--yes', '--kubectl', '/nowhere/kubectl'], { env: process.env });
  assert.equal(missing.code, 1);
  assert.match(missing.err, /\/nowhere\/kubectl cannot be started .*--kubectl/);
  using kubectl = new FakeKubectl([{ to: /get .*daemonset/, code: 1, err: 'Forbidden' }]);
  const { code, err } = await uninstalled(kubectl, '--yes');
  assert.equal(code, 1);
  assert.match(err, /Forbidden/);
});
