import { labelsOf, type InstallOptions, type KubernetesObject } from './install-options.js';
import { itemsWhen } from './slots.js';

/** The namespace of controller and agents, and what the cluster must allow there. */
export function namespaceObjects(options: InstallOptions): readonly KubernetesObject[] {
  const { namespace, createNamespace, quotaForCriticalPods } = options;
  const labels = labelsOf('mesh');
  return [
    ...itemsWhen<KubernetesObject>(createNamespace, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: namespace,
        labels: {
          ...labels,
          // Agents have the network of their nodes, and two capabilities.
          'pod-security.kubernetes.io/enforce': 'privileged',
          'culvert.dev/mesh': 'disabled',
        },
      },
    }),
    ...itemsWhen<KubernetesObject>(quotaForCriticalPods, {
      apiVersion: 'v1',
      kind: 'ResourceQuota',
      metadata: { name: 'culvert-critical-pods', namespace, labels },
      spec: {
        hard: { pods: '10000' },
        scopeSelector: {
          matchExpressions: [
            {
              operator: 'In',
              scopeName: 'PriorityClass',
              values: ['system-node-critical', 'system-cluster-critical'],
            },
          ],
        },
      },
    }),
  ];
}
