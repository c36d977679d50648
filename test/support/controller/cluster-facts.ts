import assert from 'node:assert/strict';
import type {
  ClusterFacts,
  DaemonSetObject,
  NodeObject,
} from '../../../controller/cli/view/preflight/cluster-facts.js';
import {
  plannedInstallation,
  type PlannedInstallation,
} from '../../../controller/cli/view/preflight/planned-installation.js';
import { installObjects } from '../../../controller/install/install-objects.js';
import { defaultValues, type InstallValues } from '../../../controller/install/install-options.js';

/** What `culvert install` without options needs, but for these values. */
export function planned(values: Partial<InstallValues> = {}): PlannedInstallation {
  const found = plannedInstallation(installObjects({ ...defaultValues('0.1.0'), ...values }));
  assert.ok(found);
  return found;
}

export function clusterNode(
  name: string,
  info: Partial<NodeObject['status']['nodeInfo']> = {},
  labels: Readonly<Record<string, string>> = {},
): NodeObject {
  const { operatingSystem = 'linux' } = info;
  return {
    metadata: { name, labels: { 'kubernetes.io/os': operatingSystem, 'kubernetes.io/hostname': name, ...labels } },
    spec: {},
    status: {
      nodeInfo: {
        architecture: 'amd64',
        operatingSystem: 'linux',
        kernelVersion: '6.8.0-51-generic',
        kubeletVersion: 'v1.34.2',
        containerRuntimeVersion: 'containerd://2.1.4',
        ...info,
      },
      conditions: [
        { type: 'MemoryPressure', status: 'False' },
        { type: 'Ready', status: 'True' },
      ],
    },
  };
}

export function daemonSet(
  name: string,
  env: readonly { readonly name: string; readonly value?: string }[] = [],
): DaemonSetObject {
  return {
    metadata: { name, namespace: 'kube-system' },
    spec: { template: { spec: { containers: [{ name, image: `registry.test/${name}:1`, env }] } } },
  };
}

const defaultClass = {
  metadata: { name: 'standard', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
};

/** A cluster of kubeadm with Flannel, in whose way nothing stands. */
export function soundCluster(changes: Partial<ClusterFacts> = {}): ClusterFacts {
  const usual = planned();
  return {
    planned: usual,
    serverVersion: 'v1.34.2',
    served: new Set([...usual.kinds, 'pods']),
    servedProblem: null,
    nodes: { items: [clusterNode('n1'), clusterNode('n2')] },
    namespaces: { items: ['default', 'kube-system', 'shop'].map((name) => ({ metadata: { name, labels: {} } })) },
    daemonSets: { items: [daemonSet('kube-flannel-ds'), daemonSet('kube-proxy')] },
    cilium: null,
    felix: null,
    calicoDataplane: null,
    unreadSettings: [],
    storageClasses: { items: [defaultClass] },
    networkPolicies: { items: [] },
    clusterPolicies: { items: [] },
    runtimeClasses: { items: [] },
    installed: { items: [] },
    systemServices: { items: [{ metadata: { name: 'kube-dns', namespace: 'kube-system' } }] },
    rights: { items: [{ what: 'create daemonsets.apps in culvert-system', isGiven: true }] },
    trial: { namespace: 'default', refusal: null },
    ...changes,
  };
}
