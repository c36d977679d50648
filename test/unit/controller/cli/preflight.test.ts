import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { renderChecks } from '../../../../controller/cli/commands/check-command.js';
import type { MeshCheck } from '../../../../controller/cli/view/mesh-check.js';
import { checkCluster } from '../../../../controller/cli/view/preflight/cluster-checks.js';
import type { ClusterFacts, NetworkPolicyObject } from '../../../../controller/cli/view/preflight/cluster-facts.js';
import { plannedInstallation } from '../../../../controller/cli/view/preflight/planned-installation.js';
import { defaultValues } from '../../../../controller/install/install-options.js';
import { clusterNode, daemonSet, planned, soundCluster } from '../../../support/controller/cluster-facts.js';

function isWrong(state: MeshCheck['state']): boolean {
  return state === 'warn' || state === 'fail';
}

function findings(changes: Partial<ClusterFacts>): string[] {
  return checkCluster(soundCluster(changes))
    .filter(({ state }) => isWrong(state))
    .map(({ check, state, message, hint }) => `${state} ${check}: ${message} (${hint})`);
}

const namespace = (name: string, labels: Record<string, string> = {}) => ({ metadata: { name, labels } });
const usual = defaultValues('0.1.0');
const elsewhere = {
  requiredDuringSchedulingIgnoredDuringExecution: {
    nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/os', operator: 'NotIn', values: ['linux'] }] }],
  },
};
const policy = (name: string, spec: NetworkPolicyObject['spec'], inNamespace = 'shop'): NetworkPolicyObject => ({
  metadata: { name, namespace: inNamespace },
  spec,
});
const installed = (kind: string, inNamespace: string, labels: Record<string, string> = {}) => ({
  kind,
  metadata: { name: 'culvert-agent', namespace: inNamespace, labels },
});
const forbidden = { problem: 'User "ann" cannot list this at the cluster scope' };
const webhook = 'admission webhook "validate.kyverno.svc-fail" denied the request: hostNetwork is not allowed';

/** Each row: what a cluster has otherwise than a sound one, and the one finding that it makes. */
const rows: readonly (readonly [string, Partial<ClusterFacts>, RegExp])[] = [
  ['an older server', { serverVersion: 'v1.31.9-eks-1' }, /^fail version: .*v1\.31\.9.*upgrade it to 1\.32/],
  ['a server without a version', { serverVersion: null }, /^warn version: /],
  [
    'monitoring without its operator',
    { planned: planned({ monitoring: { podMonitor: true, alertRules: false, dashboard: false } }) },
    /^fail kinds: .*podmonitors\.monitoring\.coreos\.com.*leave --monitoring out/,
  ],
  [
    'a user without rights',
    { rights: { items: [{ what: 'create clusterroles.rbac.authorization.k8s.io', isGiven: false }] } },
    /^fail rights: .*may not create clusterroles\.rbac.*cluster-admin/,
  ],
  ['rights that cannot be asked for', { rights: forbidden }, /^warn rights: .*User "ann"/],
  [
    'Culvert elsewhere',
    { installed: { items: [installed('DaemonSet', 'mesh')] } },
    /^fail installed: Culvert is installed in mesh.*culvert uninstall --namespace mesh/,
  ],
  [
    'Culvert already there',
    { installed: { items: [installed('DaemonSet', 'culvert-system')] } },
    /^warn installed: .*already \(applying the objects upgrades it/,
  ],
  [
    'a release of Helm',
    { installed: { items: [installed('DaemonSet', 'culvert-system', { 'app.kubernetes.io/managed-by': 'Helm' })] } },
    /^warn installed: .*helm upgrade/,
  ],
  [
    'what an uninstallation by hand has left',
    { installed: { items: [installed('ClusterRole', '')] } },
    /^warn installed: .*left ClusterRole culvert-agent.*culvert uninstall --yes/,
  ],
  [
    'namespaces that have the label before',
    { namespaces: { items: [namespace('shop', { 'culvert.dev/mesh': 'enabled' })] } },
    /^warn installed: shop has the label culvert\.dev\/mesh=enabled/,
  ],
  [
    'a namespace that nothing makes',
    { planned: planned({ createNamespace: false }) },
    /^fail namespace: there is no namespace culvert-system/,
  ],
  [
    'a namespace with another level of Pod Security',
    {
      planned: planned({ createNamespace: false }),
      namespaces: {
        items: [
          namespace('culvert-system', {
            'pod-security.kubernetes.io/enforce': 'baseline',
            'culvert.dev/mesh': 'disabled',
          }),
        ],
      },
    },
    /^fail namespace: .*"baseline".*kubectl label --overwrite namespace culvert-system/,
  ],
  [
    'a cluster that limits system classes (GKE)',
    { trial: { namespace: 'default', refusal: 'insufficient quota to match these scopes: [{PriorityClass In [..]}]' } },
    /^fail admission: .*system-node-critical.*--quota-for-critical-pods/,
  ],
  [
    'a webhook that refuses',
    { trial: { namespace: 'default', refusal: webhook } },
    /^warn admission: .*kyverno.*exempt the namespace culvert-system/,
  ],
  [
    'a webhook that refuses in the namespace itself',
    { trial: { namespace: 'culvert-system', refusal: webhook } },
    /^fail admission: /,
  ],
  [
    'a policy that refuses what an agent starts with',
    { trial: { namespace: 'default', refusal: 'denied the request: capability SETUID is not allowed' } },
    /^warn admission: .*--agent-privileges whole/,
  ],
  [
    'OpenShift',
    { served: new Set([...planned().kinds, 'securitycontextconstraints.security.openshift.io']) },
    /^fail admission: OpenShift gives pods a security context by the rights of their account.*--openshift/,
  ],
  [
    'no default storage class',
    { storageClasses: { items: [{ metadata: { name: 'fast' } }] } },
    /^fail storage: .*--storage-class \(fast\).*host-path/,
  ],
  [
    'a storage class that is not there',
    {
      planned: planned({
        controller: { ...usual.controller, storage: { ...usual.controller.storage, className: 'slow' } },
      }),
    },
    /^fail storage: there is no storage class slow/,
  ],
  [
    'a Windows node',
    { nodes: { items: [clusterNode('n1'), clusterNode('w1', { operatingSystem: 'windows' })] } },
    /^warn nodes: no agent runs on w1.*nodeSelector/,
  ],
  [
    'Fargate',
    { nodes: { items: [clusterNode('n1'), clusterNode('f1', {}, { 'eks.amazonaws.com/compute-type': 'fargate' })] } },
    /^warn nodes: f1 is no machine that runs DaemonSets/,
  ],
  [
    'a DaemonSet that waits for a virtual node',
    {
      nodes: { items: [clusterNode('n1'), clusterNode('f1', {}, { 'eks.amazonaws.com/compute-type': 'fargate' })] },
      planned: planned({ agent: { ...usual.agent, nodeAffinity: {} } }),
    },
    /^fail nodes: the DaemonSet of the agents makes pods for f1, which never run there/m,
  ],
  [
    'a node that the selector of the agents leaves out',
    {
      nodes: { items: [clusterNode('n1'), clusterNode('n2', {}, { mesh: 'yes' })] },
      planned: planned({ agent: { ...usual.agent, nodeSelector: { mesh: 'yes' } } }),
    },
    /^warn nodes: the selector of the agents leaves out n1: pods there are outside the mesh/,
  ],
  [
    'a selector of the agents that fits no node',
    { planned: planned({ agent: { ...usual.agent, nodeSelector: { mesh: 'yes' } } }) },
    /^fail nodes: the selector of the agents leaves out n1, n2/,
  ],
  [
    'a controller that no node takes by its affinity',
    { planned: planned({ controller: { ...usual.controller, nodeAffinity: elsewhere } }) },
    /^fail nodes: no node has what the controller asks for, so the controller runs nowhere/,
  ],
  [
    'nodes of OpenShift',
    { nodes: { items: [clusterNode('n1', {}, { 'node.openshift.io/os_id': 'rhel' })] } },
    /^warn cni: nodes of OpenShift .*--cni-config-dir \/etc\/kubernetes\/cni\/net\.d --cni-bin-dir \/var\/lib\/cni\/bin/,
  ],
  [
    'two architectures',
    { nodes: { items: [clusterNode('n1'), clusterNode('n2', { architecture: 'arm64' })] } },
    /^warn nodes: .*amd64, arm64/,
  ],
  [
    'a node for the controller that is not there',
    { planned: planned({ controller: { ...usual.controller, nodeSelector: { 'kubernetes.io/hostname': 'n9' } } }) },
    /^fail nodes: no node has kubernetes\.io\/hostname=n9/,
  ],
  [
    'an older kernel',
    { nodes: { items: [clusterNode('n1', { kernelVersion: '5.15.0-1050-aws' }), clusterNode('n2')] } },
    /^warn kernel: n1: Linux 5\.15\.0-1050-aws; before 6\.1/,
  ],
  [
    'Docker',
    { nodes: { items: [clusterNode('n1', { containerRuntimeVersion: 'docker://27.4.0' })] } },
    /^fail runtime: n1: docker:\/\/27\.4\.0.*use containerd or CRI-O/,
  ],
  [
    'gVisor',
    { runtimeClasses: { items: [{ metadata: { name: 'gvisor' }, handler: 'runsc' }] } },
    /^warn runtime: pods of the RuntimeClass gvisor/,
  ],
  [
    'Cilium that takes others out',
    {
      daemonSets: { items: [daemonSet('cilium')] },
      cilium: { 'cni-exclusive': 'true', 'kube-proxy-replacement': 'false' },
    },
    /^fail cni: Cilium takes other plugins out.*cni\.exclusive=false/,
  ],
  [
    'Cilium that resolves Services in sockets',
    {
      daemonSets: { items: [daemonSet('cilium')] },
      cilium: { 'cni-exclusive': 'false', 'kube-proxy-replacement': 'true', 'bpf-lb-sock-hostns-only': 'false' },
    },
    /^warn services: Cilium resolves Services.*socketLB\.hostNamespaceOnly=true/,
  ],
  [
    'Calico with eBPF',
    { daemonSets: { items: [daemonSet('calico-node')] }, felix: { bpfEnabled: true } },
    /^warn services: Calico has its eBPF data plane.*bpfConnectTimeLoadBalancing to Disabled/,
  ],
  [
    'Calico with eBPF by its operator',
    { daemonSets: { items: [daemonSet('calico-node')] }, calicoDataplane: 'BPF' },
    /^warn services: Calico/,
  ],
  [
    'Calico with eBPF by its environment',
    { daemonSets: { items: [daemonSet('calico-node', [{ name: 'FELIX_BPFENABLED', value: 'True' }])] } },
    /^warn services: Calico/,
  ],
  [
    'k3s',
    { nodes: { items: [clusterNode('n1', { kubeletVersion: 'v1.34.2+k3s1' })] } },
    /^warn cni: nodes of k3s .*--cni-config-dir \/var\/lib\/rancher\/k3s\/agent\/etc\/cni\/net\.d --cni-bin-dir/,
  ],
  [
    'GKE',
    { nodes: { items: [clusterNode('n1', { kubeletVersion: 'v1.34.1-gke.1829001' })] } },
    /^warn cni: nodes of GKE .*--cni-bin-dir \/home\/kubernetes\/bin/,
  ],
  ['Multus', { daemonSets: { items: [daemonSet('kube-multus-ds')] } }, /^warn cni: Multus/],
  ['no plugin', { planned: planned({ cni: { ...usual.cni, enabled: false } }) }, /^warn cni: without the CNI plugin/],
  ['no DNS', { systemServices: { items: [] } }, /^warn dns: /],
  [
    'a default deny in a namespace',
    { networkPolicies: { items: [policy('default-deny', { podSelector: {}, policyTypes: ['Ingress'] })] } },
    /^warn policies: shop\/default-deny leaves no way for tunnels.*allow TCP 15008/,
  ],
  [
    'a policy that has other ports',
    {
      networkPolicies: {
        items: [
          policy('web', {
            podSelector: { matchLabels: { app: 'web' } },
            ingress: [{ ports: [{ port: 8080 }, { protocol: 'UDP', port: 15_008 }] }],
          }),
        ],
      },
    },
    /^warn policies: shop\/web /,
  ],
  [
    'what the controller may not reach',
    {
      networkPolicies: {
        items: [policy('no-way-out', { podSelector: {}, policyTypes: ['Egress'], egress: [] }, 'culvert-system')],
      },
    },
    /^warn policies: culvert-system\/no-way-out limits what the controller may connect to/,
  ],
  [
    'policies of the whole cluster',
    { clusterPolicies: { items: ['CiliumClusterwideNetworkPolicy baseline'] } },
    /^warn policies: CiliumClusterwideNetworkPolicy baseline is for pods of all namespaces/,
  ],
  [
    "Istio's ambient mesh",
    { daemonSets: { items: [daemonSet('kube-flannel-ds'), daemonSet('istio-cni-node'), daemonSet('ztunnel')] } },
    /^warn meshes: Istio's ambient mesh is installed/,
  ],
  ["Linkerd's plugin", { daemonSets: { items: [daemonSet('linkerd-cni')] } }, /^warn meshes: Linkerd's CNI plugin/],
  ['policies that cannot be read', { networkPolicies: forbidden }, /^warn policies: network policies cannot be read/],
];

describe('what stands in the way of an installation', () => {
  it('is nothing in a cluster of kubeadm, and what only agents see is said', () => {
    assert.deepEqual(findings({}), []);
    const checks = checkCluster(soundCluster());
    assert.equal(new Set(checks.map(({ check }) => check)).size, checks.length);
    assert.equal(checks.at(-1)?.check, 'hosts');
    assert.match(`${checks.at(-1)?.message} ${checks.at(-1)?.hint}`, /iptables.*seen on the node alone.*culvert check/);
  });

  for (const [name, changes, expected] of rows) {
    it(`has one finding for ${name}`, () => {
      const found = findings(changes);
      assert.equal(found.length, 1, found.join('\n'));
      assert.match(found[0] ?? '', expected);
    });
  }

  it('is a namespace that belongs to two meshes', () => {
    const labels = { 'istio.io/dataplane-mode': 'ambient', 'culvert.dev/mesh': 'enabled' };
    const found = findings({ namespaces: { items: [namespace('shop', labels)] } });
    assert.match(found.join('\n'), /fail meshes: shop belong to Istio's ambient mesh and to Culvert/);
  });
});

/** Each row: what could not be read of a cluster, and the checks that do not pass for it. */
const unread: readonly (readonly [string, Partial<ClusterFacts>, readonly string[]])[] = [
  ['nodes', { nodes: forbidden }, ['nodes', 'kernel', 'runtime', 'cni']],
  ['DaemonSets', { daemonSets: forbidden }, ['cni', 'services', 'meshes']],
  ['namespaces', { namespaces: forbidden }, ['installed', 'namespace', 'meshes']],
  ['storage classes', { storageClasses: forbidden }, ['storage']],
  ['RuntimeClasses', { runtimeClasses: forbidden }, ['runtime']],
  ['network policies', { networkPolicies: forbidden }, ['policies']],
  ['policies for all namespaces', { clusterPolicies: forbidden }, ['policies']],
  ['objects of Culvert', { installed: forbidden }, ['installed']],
  ['services', { systemServices: forbidden }, ['dns']],
  ['settings of Cilium', { unreadSettings: [{ of: 'Cilium', ...forbidden }] }, ['cni', 'services']],
  ['settings of Calico', { unreadSettings: [{ of: 'Calico', ...forbidden }] }, ['services']],
];

describe('what could not be read', () => {
  for (const [name, changes, expected] of unread) {
    it(`is not checked, and never taken for what is sound: ${name}`, () => {
      const found = checkCluster(soundCluster(changes)).filter(({ state }) => isWrong(state));
      assert.deepEqual(
        found.map(({ check }) => check),
        expected,
      );
      for (const { state, message } of found) {
        assert.equal(state, 'warn');
        assert.match(message, /cannot be read, so this is not checked: User "ann"/);
      }
    });
  }

  it('is no kind that the cluster does not serve', () => {
    const served = new Set(planned().kinds.filter((kind) => kind !== 'namespaces'));
    const [found, ...others] = findings({ served, servedProblem: 'metrics.k8s.io/v1beta1: stale GroupVersion' });
    assert.deepEqual(others, []);
    assert.match(found ?? '', /^warn kinds: .*namespaces are not checked: metrics\.k8s\.io/);
  });
});

describe('what does not stand in the way', () => {
  const sound: readonly (readonly [string, Partial<ClusterFacts>])[] = [
    [
      'Cilium with both settings',
      {
        daemonSets: { items: [daemonSet('cilium')] },
        cilium: { 'cni-exclusive': 'false', 'kube-proxy-replacement': 'true', 'bpf-lb-sock-hostns-only': 'true' },
      },
    ],
    [
      'Calico with eBPF that leaves connects alone',
      {
        daemonSets: { items: [daemonSet('calico-node')] },
        felix: { bpfEnabled: true, bpfConnectTimeLoadBalancing: 'Disabled' },
      },
    ],
    [
      'k3s with its directories',
      {
        nodes: { items: [clusterNode('n1', { kubeletVersion: 'v1.34.2+k3s1' })] },
        planned: planned({
          cni: {
            enabled: true,
            configDirectory: '/var/lib/rancher/k3s/agent/etc/cni/net.d',
            binDirectory: '/var/lib/rancher/k3s/data/cni',
          },
        }),
      },
    ],
    [
      'Pod Security in another namespace',
      { trial: { namespace: 'default', refusal: 'pods "x" is forbidden: violates PodSecurity "restricted:latest"' } },
    ],
    [
      'a quota that is installed',
      {
        planned: planned({ quotaForCriticalPods: true }),
        served: new Set(planned({ quotaForCriticalPods: true }).kinds),
        trial: { namespace: 'default', refusal: 'pods "x" is forbidden: insufficient quota to match these scopes: []' },
      },
    ],
    [
      'a default deny with a way for tunnels',
      {
        networkPolicies: {
          items: [
            policy('default-deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] }),
            policy('tunnels', {
              podSelector: {},
              policyTypes: ['Ingress', 'Egress'],
              ingress: [{ ports: [{ protocol: 'TCP', port: 15_008 }] }],
              egress: [{ ports: [{ port: 15_000, endPort: 15_010 }] }],
            }),
          ],
        },
      },
    ],
    [
      'no claim, and no storage class',
      {
        planned: planned({
          controller: { ...usual.controller, storage: { ...usual.controller.storage, kind: 'empty-dir' } },
        }),
        storageClasses: { items: [] },
      },
    ],
  ];
  for (const [name, changes] of sound) {
    it(`is ${name}`, () => assert.deepEqual(findings(changes), []));
  }
});

describe('what objects need', () => {
  it('is the right to make each of them, and to give what its roles give', () => {
    const { makes, gives, kinds, unknownKinds, namespace: own, cni, controllerLabels } = planned();
    assert.equal(own, 'culvert-system');
    assert.deepEqual(cni, { configDirectory: '/etc/cni/net.d', binDirectory: '/opt/cni/bin' });
    assert.equal(controllerLabels['app.kubernetes.io/component'], 'controller');
    assert.deepEqual(unknownKinds, []);
    assert.ok(kinds.includes('daemonsets.apps') && kinds.includes('namespaces'));
    assert.ok(
      makes.some(({ verb, resource, namespace: in_ }) => `${verb} ${resource} ${in_}` === `create daemonsets ${own}`),
    );
    assert.ok(gives.some(({ verb, group }) => verb === 'create' && group === 'authentication.k8s.io'));
    assert.ok(gives.some(({ name, namespace: in_ }) => name === 'culvert-ca' && in_ === own));
  });

  it('is nothing without an agent and a controller', () => {
    assert.equal(plannedInstallation([{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'a' } }]), null);
  });

  it('is known of every kind that an installation may have', () => {
    const all = planned({
      quotaForCriticalPods: true,
      monitoring: { podMonitor: true, alertRules: true, dashboard: true },
    });
    assert.deepEqual(all.unknownKinds, []);
  });
});

describe('what no API server knows', () => {
  const hosts = (changes: Partial<ClusterFacts>) =>
    checkCluster(soundCluster(changes)).filter(({ check }) => check === 'hosts');

  it('is not taken for sound: iptables of the nodes, and directories that are written', () => {
    const [line] = hosts({});
    assert.equal(line?.state, 'unchecked');
    assert.match(
      line.message,
      /what the rules of iptables need.*\/etc\/cni\/net\.d and \/opt\/cni\/bin can be written/,
    );
    // Agents do not try iptables before there is a pod to capture.
    assert.match(line.hint, /with the first pod of the mesh on its node/);
    assert.match(renderChecks([line]), /^\? hosts: /);
  });

  it('has nothing of CNI where no plugin is installed', () => {
    const cni = { enabled: false, configDirectory: '/etc/cni/net.d', binDirectory: '/opt/cni/bin' };
    const [line] = hosts({ planned: planned({ cni }) });
    assert.doesNotMatch(`${line?.message} ${line?.hint}`, /cni|plugin/i);
  });

  it('is said of no other check: each names what it looked at', () => {
    const said = checkCluster(soundCluster({})).filter(({ check }) => check === 'nodes' || check === 'kernel');
    assert.deepEqual(
      said.map(({ message }) => message),
      ['2 nodes are ready, with Linux and pods of DaemonSets', 'the kernel of every node is 6.1 or newer'],
    );
  });
});
