import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { fitsNode, type PlacedPod } from '../../../../controller/cli/view/preflight/node-fit.js';
import type { KubernetesObject } from '../../../../controller/install/install-options.js';
import { installObjects } from '../../../../controller/install/install-objects.js';
import { controllerSettings } from '../../../../controller/config/settings.js';
import { culvert } from '../../../support/controller/cli-fixture.js';
import { installValueSets } from '../../../support/controller/install-value-sets.js';

async function rendered(...argv: readonly string[]): Promise<readonly KubernetesObject[]> {
  const { code, out, err } = await culvert(['install', ...argv]);
  assert.equal(code, 0, err);
  return parseAllDocuments(out).map((document) => document.toJS() as KubernetesObject);
}

type PodSpec = PlacedPod & {
  readonly containers: readonly {
    readonly [field: string]: unknown;
    readonly securityContext: { readonly seLinuxOptions?: object };
  }[];
  readonly volumes: readonly { readonly name: string }[];
  readonly [field: string]: unknown;
};

async function podOf(kind: 'Deployment' | 'DaemonSet', ...argv: readonly string[]): Promise<PodSpec> {
  const found = (await rendered(...argv)).find((object) => object.kind === kind);
  return (found as unknown as { spec: { template: { spec: PodSpec } } }).spec.template.spec;
}

test('each object is there once, in an order in which it can be created, with labels that find it', async () => {
  const objects = await rendered();
  const names = objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
  assert.deepEqual(names, [
    'Namespace/culvert-system',
    'ServiceAccount/culvert-controller',
    'ServiceAccount/culvert-agent',
    'ClusterRole/culvert-controller',
    'ClusterRoleBinding/culvert-controller',
    'Role/culvert-controller',
    'RoleBinding/culvert-controller',
    'ValidatingWebhookConfiguration/culvert',
    'ConfigMap/culvert-ca',
    'Service/culvert-controller',
    'PersistentVolumeClaim/culvert-controller',
    'Deployment/culvert-controller',
    'PodDisruptionBudget/culvert-controller',
    'NetworkPolicy/culvert-controller',
    'DaemonSet/culvert-agent',
  ]);
  for (const { kind, metadata } of objects) {
    const { labels } = metadata as unknown as { labels: Record<string, string> };
    assert.equal(labels['app.kubernetes.io/part-of'], 'culvert', `${kind}/${metadata.name}`);
  }
});

test('another namespace, image and trust domain are everywhere', async () => {
  const objects = await rendered('--namespace', 'mesh', '--image', 'r.test/c:1@sha256:ab', '--trust-domain', 'a.test');
  const text = JSON.stringify(objects);
  assert.doesNotMatch(text, /culvert-system/);
  for (const { metadata } of objects) assert.ok([undefined, 'mesh'].includes(metadata.namespace));
  for (const kind of ['Deployment', 'DaemonSet'] as const) {
    const { containers } = await podOf(kind, '--image', 'r.test/c:1');
    assert.deepEqual(
      containers.map(({ image }) => image),
      ['r.test/c:1'],
    );
  }
  assert.match(text, /--trust-domain=a\.test/);
  assert.match(text, /culvert-controller\.mesh\.svc:15443/);
});

test('the controller has no right of the host, and its state outlives the pod', async () => {
  const { containers, securityContext, volumes } = await podOf('Deployment');
  assert.deepEqual(containers[0]?.securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  assert.equal((securityContext as { runAsNonRoot: boolean }).runAsNonRoot, true);
  assert.deepEqual(volumes[0], { name: 'state', persistentVolumeClaim: { claimName: 'culvert-controller' } });
});

test('an agent has the capabilities of its helper and of its start, no port of the host, and no token for the API', async () => {
  const { containers, automountServiceAccountToken, hostPID } = await podOf('DaemonSet');
  const [agent] = containers;
  const restricted = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true };
  const both = ['NET_ADMIN', 'SYS_ADMIN', 'CHOWN', 'DAC_OVERRIDE'];
  const capabilities = { drop: ['ALL'], add: [...both, 'SETGID', 'SETUID'] };
  const seLinuxOptions = { type: 'spc_t' };
  assert.deepEqual(agent?.securityContext, { ...restricted, capabilities, seLinuxOptions });
  assert.ok(String(agent?.['command']).includes('--privileges=split'));
  assert.equal(agent?.['ports'], undefined);
  assert.equal(hostPID, undefined);
  assert.equal(automountServiceAccountToken, false);
  const [whole] = (await podOf('DaemonSet', '--agent-privileges', 'whole')).containers;
  const least = { drop: ['ALL'], add: both };
  assert.deepEqual(whole?.securityContext, { ...restricted, capabilities: least, seLinuxOptions });
  assert.ok(String(whole?.['command']).includes('--privileges=whole'));
});

test('the state may be in a directory of a node, or go with the pod', async () => {
  const node = ['--node-selector', 'kubernetes.io/hostname=n1'];
  const { volumes, nodeSelector } = await podOf('Deployment', '--storage', 'host-path:/var/lib/culvert', ...node);
  assert.deepEqual(volumes[0], {
    name: 'state',
    hostPath: { path: '/var/lib/culvert', type: 'DirectoryOrCreate' },
  });
  assert.deepEqual(nodeSelector, { 'kubernetes.io/hostname': 'n1' });
  assert.deepEqual((await podOf('Deployment', '--storage', 'empty-dir')).volumes[0], { name: 'state', emptyDir: {} });
});

test('agents put the CNI plugin into the chain of their node, in the directories that it has, or stay out of it', async () => {
  const cniOf = async (...argv: readonly string[]) => {
    const { containers, volumes } = await podOf('DaemonSet', ...argv);
    const [agent] = containers as unknown as [{ command: string[]; volumeMounts: { name: string }[] }];
    return {
      flags: agent.command.filter((flag) => flag.startsWith('--cni-')),
      mounts: agent.volumeMounts.filter(({ name }) => name.startsWith('cni-')),
      volumes: volumes.filter(({ name }) => name.startsWith('cni-')),
    };
  };
  const usual = await cniOf('--namespace', 'mesh');
  assert.deepEqual(usual, {
    flags: [
      '--cni-socket=/var/lib/culvert/agent/cni.sock',
      '--cni-config-dir=/etc/cni/net.d',
      '--cni-bin-dir=/opt/cni/bin',
      '--cni-own-namespace=mesh',
    ],
    mounts: [
      { name: 'cni-config', mountPath: '/etc/cni/net.d' },
      { name: 'cni-bin', mountPath: '/opt/cni/bin' },
    ],
    volumes: [
      { name: 'cni-config', hostPath: { path: '/etc/cni/net.d', type: 'DirectoryOrCreate' } },
      { name: 'cni-bin', hostPath: { path: '/opt/cni/bin', type: 'DirectoryOrCreate' } },
    ],
  });
  const k3s = await cniOf('--cni-config-dir', '/var/lib/rancher/k3s/agent/etc/cni/net.d', '--cni-bin-dir', '/k/bin');
  assert.match(JSON.stringify(k3s), /"mountPath":"\/k\/bin"/);
  assert.doesNotMatch(JSON.stringify(k3s), /\/opt\/cni|"\/etc\/cni/);
  assert.deepEqual(await cniOf('--no-cni'), { flags: [], mounts: [], volumes: [] });
});

test('what is asked for is there: quota, monitoring, secrets of the registry; what is not wanted is not', async () => {
  const kinds = async (...argv: readonly string[]) => (await rendered(...argv)).map(({ kind }) => kind);
  const asked = ['--quota-for-critical-pods', '--monitoring', 'pod-monitor', 'alert-rules', 'dashboard'];
  const more = (await kinds(...asked)).filter((kind) => /Quota|Monitor|Prometheus/.test(kind));
  assert.deepEqual(more, ['ResourceQuota', 'PodMonitor', 'PodMonitor', 'PrometheusRule']);
  const less = await kinds('--no-create-namespace', '--no-network-policy', '--no-disruption-budget');
  assert.deepEqual(
    less.filter((kind) => ['Namespace', 'NetworkPolicy', 'PodDisruptionBudget'].includes(kind)),
    [],
  );
  for (const kind of ['Deployment', 'DaemonSet'] as const) {
    const { imagePullSecrets } = await podOf(kind, '--image-pull-secret', 'a', 'b');
    assert.deepEqual(imagePullSecrets, [{ name: 'a' }, { name: 'b' }]);
  }
});

test('agents serve metrics at their node only where they are scraped', async () => {
  const flags = async (...argv: readonly string[]) => (await podOf('DaemonSet', ...argv)).containers[0]?.['command'];
  assert.doesNotMatch(String(await flags()), /metrics-address/);
  assert.match(String(await flags('--monitoring', 'pod-monitor')), /--metrics-address=\[::\]:15020/);
});

test('pods are for nodes with Linux that are no virtual ones, so that a DaemonSet never waits for another', async () => {
  for (const kind of ['Deployment', 'DaemonSet'] as const) {
    const pod = await podOf(kind, '--replicas', '2', '--storage-access-mode', 'ReadWriteMany');
    const fits = (labels: Readonly<Record<string, string>>): boolean =>
      fitsNode(pod, { metadata: { name: 'n', labels: { 'kubernetes.io/os': 'linux', ...labels } } });
    assert.ok(fits({}));
    assert.ok(fits({ type: 'metal', 'eks.amazonaws.com/compute-type': 'ec2' }));
    assert.ok(!fits({ 'kubernetes.io/os': 'windows' }));
    assert.ok(!fits({ 'eks.amazonaws.com/compute-type': 'fargate' }));
    assert.ok(!fits({ type: 'virtual-kubelet' }));
  }
  const { nodeSelector } = await podOf('DaemonSet', '--agent-node-selector', 'mesh=yes');
  assert.deepEqual(nodeSelector, { mesh: 'yes' });
});

test('a controller leaves a node that is dead after 30 s, an agent never leaves its node', async () => {
  const { tolerations } = await podOf('Deployment');
  assert.deepEqual(
    (tolerations as readonly Record<string, unknown>[]).map((each) => [each['key'], each['tolerationSeconds']]),
    [
      ['node.kubernetes.io/not-ready', 30],
      ['node.kubernetes.io/unreachable', 30],
    ],
  );
  assert.deepEqual((await podOf('DaemonSet'))['tolerations'], [{ operator: 'Exists' }]);
});

test('an update makes the new agent first, or on full nodes ends the old one first', async () => {
  const updateOf = async (...argv: readonly string[]): Promise<unknown> => {
    const found = (await rendered(...argv)).find(({ kind }) => kind === 'DaemonSet');
    return (found as unknown as { spec: { updateStrategy: { rollingUpdate: unknown } } }).spec.updateStrategy
      .rollingUpdate;
  };
  assert.deepEqual(await updateOf(), { maxSurge: 1, maxUnavailable: 0 });
  assert.deepEqual(await updateOf('--no-surge'), { maxSurge: 0, maxUnavailable: 1 });
});

test('SELinux lets an agent into directories of the node; OpenShift lets the three accounts have their pods', async () => {
  const seLinuxOf = async (...argv: readonly string[]): Promise<unknown> => {
    const [agent] = (await podOf('DaemonSet', ...argv)).containers;
    return agent?.securityContext.seLinuxOptions;
  };
  assert.deepEqual(await seLinuxOf(), { type: 'spc_t' });
  assert.equal(await seLinuxOf('--se-linux-type', 'none'), undefined);
  const bindings = async (...argv: readonly string[]) =>
    (await rendered(...argv)).filter(
      ({ kind, metadata }) => kind === 'RoleBinding' && /privileged/.test(metadata.name),
    );
  assert.deepEqual(await bindings(), []);
  const [binding] = (await bindings('--openshift', '--namespace', 'mesh')) as unknown as [
    { roleRef: { name: string }; subjects: { name: string; namespace: string }[] },
  ];
  assert.equal(binding.roleRef.name, 'system:openshift:scc:privileged');
  assert.deepEqual(
    binding.subjects.map(({ name, namespace }) => `${namespace}/${name}`),
    ['mesh/culvert-controller', 'mesh/culvert-agent', 'mesh/culvert-cleanup'],
  );
});

test('the claim is larger than all that the controller lets grow in it', async () => {
  const claim = (await rendered()).find(({ kind }) => kind === 'PersistentVolumeClaim') as unknown as {
    spec: { resources: { requests: { storage: string } } };
  };
  const [, gibibytes = ''] = /^(\d+)Gi$/.exec(claim.spec.resources.requests.storage) ?? [];
  const bytes = Number(gibibytes) * 1024 ** 3;
  const { auditLogMaxBytes, flowMaxBytes, historyBytes } = controllerSettings;
  const grows = [auditLogMaxBytes, flowMaxBytes, historyBytes].reduce((sum, each) => sum + each.default, 0);
  // A quarter is for the rest: the journal, which is written again at a size, the buckets of agents, the log of nats-server.
  assert.ok(grows <= (bytes * 3) / 4, `${grows} of ${bytes}`);
  // Audit log and flow records take less than their quarters of it, which smaller volumes give them.
  for (const each of [auditLogMaxBytes, flowMaxBytes]) assert.ok(each.default <= bytes / 4);
});

test('what it prints can be read and changed line by line: no part refers to another', async () => {
  const everything = ['--policies', 'NetworkPolicy', '--monitoring', 'pod-monitor', 'alert-rules', 'dashboard'];
  for (const argv of [[], everything, ['--crds']]) {
    const { out } = await culvert(['install', ...argv]);
    assert.doesNotMatch(out, /(^|[:-] +)[&*]a\d+$/m);
  }
});

test('a text that kubectl would take for a truth value or a number has quotes', async () => {
  const argv = ['--node-selector', 'a=yes', 'b=1_000', 'c=n'];
  const { code, out } = await culvert(['install', ...argv]);
  assert.equal(code, 0);
  for (const line of ['a: "yes"', 'b: "1_000"', 'c: "n"']) assert.ok(out.includes(line), line);
});

type Rule = {
  readonly apiGroups: string[];
  readonly resources: string[];
  readonly resourceNames?: string[];
  readonly verbs: string[];
};

/** What the controller may do in the whole cluster, and with which flags it runs. */
async function rightsOf(...argv: readonly string[]) {
  const objects = await rendered(...argv);
  const role = objects.find(({ kind }) => kind === 'ClusterRole') as unknown as { rules: Rule[] };
  const { containers } = await podOf('Deployment', ...argv);
  const command = containers[0]?.['command'] as readonly string[] | undefined;
  const flags = (command ?? []).filter((flag) => /-(webhook|policies)/.test(flag));
  return { rules: role.rules.map((rule) => JSON.stringify(rule)), flags, objects };
}

test('the API server asks the controller about rules, with the policy that is wanted, and about no deletion', async () => {
  const { objects, rules, flags } = await rightsOf('--webhook-failure-policy', 'Fail', '--namespace', 'mesh');
  assert.deepEqual(flags, ['--kubernetes-webhook=culvert']);
  const order = objects.map(({ kind }) => kind);
  assert.ok(order.indexOf('ValidatingWebhookConfiguration') < order.indexOf('Deployment'));
  const { webhooks } = objects.find(({ kind }) => kind === 'ValidatingWebhookConfiguration') as unknown as {
    webhooks: [Record<string, unknown> & { rules: [{ operations: string[]; resources: string[] }] }];
  };
  const [{ name, failurePolicy, clientConfig, rules: about }] = webhooks;
  assert.deepEqual([name, failurePolicy], ['rules.culvert.dev', 'Fail']);
  // Without the CA and the path: the controller has them, and applying the object again leaves them.
  assert.deepEqual(clientConfig, { service: { namespace: 'mesh', name: 'culvert-controller', port: 15_443 } });
  assert.deepEqual(about[0].operations, ['CREATE', 'UPDATE']);
  assert.ok(about[0].resources.includes('segmentationrules'));
  const narrow = rules.filter((rule) => rule.includes('admissionregistration'));
  assert.equal(narrow.length, 1);
  assert.match(narrow[0] ?? '', /"resourceNames":\["culvert"\],"verbs":\["get","patch"\]/);

  const without = await rightsOf('--no-webhook');
  assert.deepEqual(without.flags, []);
  assert.ok(!JSON.stringify(without.objects).includes('validatingwebhookconfigurations"'));
  assert.ok(!without.objects.some(({ kind }) => kind === 'ValidatingWebhookConfiguration'));
});

test('the controller may read the policies that are named, and no other', async () => {
  const usual = await rightsOf();
  assert.ok(!usual.rules.some((rule) => /istio|networkpolicies/.test(rule)));
  const asked = await rightsOf('--policies', 'NetworkPolicy,Namespace', 'ServiceEntry', 'NetworkPolicy');
  assert.deepEqual(asked.flags, [
    '--kubernetes-webhook=culvert',
    '--kubernetes-policies=NetworkPolicy,Namespace,ServiceEntry',
  ]);
  assert.deepEqual(
    asked.rules.filter((rule) => !usual.rules.includes(rule)),
    [
      '{"apiGroups":["networking.k8s.io"],"resources":["networkpolicies"],"verbs":["list","watch"]}',
      '{"apiGroups":["networking.istio.io"],"resources":["serviceentries"],"verbs":["list","watch"]}',
      '{"apiGroups":["apiextensions.k8s.io"],"resources":["customresourcedefinitions"],"resourceNames":["serviceentries.networking.istio.io"],"verbs":["get"]}',
    ],
  );
});

test('two controllers have a lease, the narrow rights for it, and a Service that leads to no pod by its labels', async () => {
  const one = await rendered();
  assert.ok(!one.some(({ kind }) => kind === 'Lease'));
  const two = await rendered('--replicas', '2');
  const find = (kind: string): Record<string, unknown> => two.find((each) => each.kind === kind) ?? {};
  assert.deepEqual([find('Lease')['metadata'], find('Lease')['spec']], [find('Deployment')['metadata'], {}]);
  const { spec } = find('Deployment') as unknown as {
    spec: {
      replicas: number;
      strategy: object;
      template: { metadata: { labels: object }; spec: Record<string, unknown> };
    };
  };
  assert.deepEqual([spec.replicas, spec.strategy], [2, { type: 'Recreate' }]);
  const [container] = spec.template.spec['containers'] as [{ command: string[] }];
  assert.ok(container.command.includes('--kubernetes-lease=culvert-controller'));
  const service = find('Service') as unknown as { spec: { selector: Record<string, string> } };
  const { 'culvert.dev/leads-to': leadsTo, ...labels } = service.spec.selector;
  assert.equal(leadsTo, 'the-one-that-serves');
  const own = Object.entries(spec.template.metadata.labels).filter(([label]) => label !== 'app.kubernetes.io/part-of');
  assert.deepEqual(labels, Object.fromEntries(own));
  const { rules } = find('Role') as unknown as { rules: Rule[] };
  assert.deepEqual(
    rules.slice(2).map(({ resources, resourceNames, verbs }) => [resources[0], resourceNames, verbs]),
    [
      ['leases', ['culvert-controller'], ['get', 'patch']],
      ['endpointslices', undefined, ['create']],
      ['endpointslices', ['culvert-controller-active-ipv4', 'culvert-controller-active-ipv6'], ['patch']],
    ],
  );
  const most = async (...argv: readonly string[]): Promise<unknown> => {
    const budget = (await rendered(...argv)).find(({ kind }) => kind === 'PodDisruptionBudget');
    return (budget?.['spec'] as { readonly maxUnavailable: number } | undefined)?.maxUnavailable;
  };
  assert.equal(await most(), 1);
  const many = ['--replicas', '2', '--storage-access-mode', 'ReadWriteMany'];
  assert.equal(await most(...many), 1);
  // Both are on one node: a drain that left one there would never end.
  assert.equal(await most('--replicas', '2'), 2);
  const affinity = async (...argv: readonly string[]) =>
    Object.keys(((await podOf('Deployment', '--replicas', '2', ...argv)) as { affinity?: object }).affinity ?? {});
  assert.deepEqual(await affinity(), ['nodeAffinity', 'podAffinity']);
  assert.deepEqual(await affinity('--storage-access-mode', 'ReadWriteMany'), ['nodeAffinity', 'podAntiAffinity']);
});

test('two controllers with a directory of a node must be on one node, and the group that they join is their own', async () => {
  const argv = ['--replicas', '2', '--storage', 'host-path:/srv/culvert', '--node-selector', 'role=infra'];
  const found = (await rendered(...argv)).find(({ kind }) => kind === 'Deployment');
  const { spec } = found as unknown as {
    spec: { template: { metadata: { labels: Record<string, string> }; spec: { affinity: object } } };
  };
  const { metadata, spec: pod } = spec.template;
  const { podAffinity } = pod.affinity as { podAffinity: Record<string, readonly Term[]> };
  type Term = { topologyKey: string; labelSelector: { matchLabels: Record<string, string> } };
  assert.deepEqual(Object.keys(podAffinity), ['requiredDuringSchedulingIgnoredDuringExecution']);
  const [term, ...others] = podAffinity['requiredDuringSchedulingIgnoredDuringExecution'] ?? [];
  assert.deepEqual([term?.topologyKey, others], ['kubernetes.io/hostname', []]);
  // Else the first pod would wait for ever.
  for (const [label, value] of Object.entries(term?.labelSelector.matchLabels ?? {}))
    assert.equal(metadata.labels[label], value);
});

/** Groups of Kubernetes itself: all of them are stable since 1.21 or longer, so no version that we support differs. */
const stable = ['v1', 'apps/v1', 'policy/v1', 'rbac.authorization.k8s.io/v1', 'networking.k8s.io/v1'];

test('objects are the same for every supported version of Kubernetes: none is of an API that is not stable', () => {
  for (const values of Object.values(installValueSets)) {
    for (const { apiVersion, kind } of installObjects(values)) {
      const known = [...stable, 'admissionregistration.k8s.io/v1', 'coordination.k8s.io/v1'];
      assert.ok(known.includes(apiVersion) || apiVersion === 'monitoring.coreos.com/v1', `${kind} of ${apiVersion}`);
    }
  }
});

const refused: readonly (readonly [argv: readonly string[], error: RegExp])[] = [
  [['--namespace', 'A_b'], /--namespace: "A_b" is no name of a namespace/],
  [['--image', 'a b'], /--image: "a b" is no image/],
  [['--trust-domain', 'A.b'], /--trust-domain: "A\.b" is none/],
  [['--host-probes', 'root'], /--host-probes: "root" names no program/],
  [['--storage', 'nfs'], /--storage: "nfs" is none.*use claim, empty-dir, or host-path/],
  [['--storage', 'host-path:/a/../b'], /--storage: "host-path:\/a\/\.\.\/b" is none/],
  [['--storage', 'host-path:/a'], /needs the node that has it.*--node-selector/],
  [['--storage', 'empty-dir', '--storage-class', 'fast'], /--storage-class needs --storage claim/],
  [['--storage-size', 'much'], /--storage-size: "much" is no quantity/],
  [['--replicas', '3'], /--replicas: "3" is none.*use 1 or 2/],
  [
    ['--replicas', '2', '--storage', 'empty-dir'],
    /--replicas 2 cannot have --storage empty-dir.*the state of the other/,
  ],
  [['--storage-access-mode', 'RWX'], /--storage-access-mode: "RWX" is none.*use ReadWriteOnce or ReadWriteMany/],
  [['--webhook-failure-policy', 'fail'], /--webhook-failure-policy: "fail" is none.*use Ignore or Fail/],
  [['--policies', 'NetworkPolicies'], /"NetworkPolicies" is no kind that can be taken.*did you mean NetworkPolicy/],
  [['--monitoring', 'all'], /--monitoring: "all" is none.*pod-monitor, alert-rules, dashboard/],
  [['--node-selector', 'n1'], /--node-selector: "n1" is no label/],
  [['--agent-node-selector', 'n1'], /--agent-node-selector: "n1" is no label/],
  [['--se-linux-type', 'a b'], /--se-linux-type: "a b" is no type.*spc_t/],
  [['--agent-privileges', 'none'], /--agent-privileges: "none" is not known.*use split or whole/],
  [['--cni-config-dir', 'net.d'], /--cni-config-dir: "net\.d" is no directory of a node.*absolute path/],
  [['--cni-bin-dir', '/opt/../etc'], /--cni-bin-dir: "\/opt\/\.\.\/etc" is no directory/],
];
for (const [argv, error] of refused) {
  test(`culvert install ${argv.join(' ')} is refused, with what to write`, async () => {
    const { code, err, out } = await culvert(['install', ...argv]);
    assert.deepEqual([code, out], [64, '']);
    assert.match(err, error);
  });
}
