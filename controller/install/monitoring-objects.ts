import { alertRules } from './alert-rules.js';
import { dashboard } from './dashboard.js';
import {
  agentName,
  controllerName,
  labelsOf,
  metricsPort,
  rootsConfigMap,
  selectorOf,
  type InstallOptions,
  type KubernetesObject,
} from './install-options.js';
import { itemsWhen } from './slots.js';

const operator = 'monitoring.coreos.com/v1';
const node = { sourceLabels: ['__meta_kubernetes_pod_node_name'], targetLabel: 'node' } as const;

/** What Prometheus' operator and Grafana's sidecar read: only where they are asked for, since not every cluster has them. */
export function monitoringObjects(options: InstallOptions): readonly KubernetesObject[] {
  const { namespace, monitoring } = options;
  return [
    ...itemsWhen<KubernetesObject>(
      monitoring.podMonitor,
      {
        apiVersion: operator,
        kind: 'PodMonitor',
        metadata: { name: agentName, namespace, labels: labelsOf('agent') },
        spec: {
          selector: { matchLabels: selectorOf('agent') },
          // The pods have no port: two agents are on a node during an update, and a port of the host can be had once.
          podMetricsEndpoints: [{ path: '/metrics', relabelings: [...addressOf('__meta_kubernetes_pod_ip'), node] }],
        },
      },
      {
        apiVersion: operator,
        kind: 'PodMonitor',
        metadata: { name: controllerName, namespace, labels: labelsOf('controller') },
        spec: {
          selector: { matchLabels: selectorOf('controller') },
          podMetricsEndpoints: [
            {
              port: 'https',
              scheme: 'https',
              path: '/metrics',
              tlsConfig: {
                ca: { configMap: { name: rootsConfigMap, key: 'ca.crt' } },
                serverName: `${controllerName}.${namespace}.svc`,
              },
            },
          ],
        },
      },
    ),
    ...itemsWhen<KubernetesObject>(monitoring.alertRules, {
      apiVersion: operator,
      kind: 'PrometheusRule',
      metadata: { name: 'culvert', namespace, labels: labelsOf('mesh') },
      spec: { groups: [{ name: 'culvert', rules: alertRules }] },
    }),
    ...itemsWhen<KubernetesObject>(monitoring.dashboard, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'culvert-dashboard', namespace, labels: { ...labelsOf('mesh'), grafana_dashboard: '1' } },
      data: { 'culvert.json': JSON.stringify(dashboard) },
    }),
  ];
}

/** The address at which a pod without a port is scraped, of either family. */
function addressOf(source: string): readonly object[] {
  const to = { sourceLabels: [source], targetLabel: '__address__' };
  return [
    { ...to, regex: '([^:]+)', replacement: `$1:${metricsPort}` },
    { ...to, regex: '(.*:.*)', replacement: `[$1]:${metricsPort}` },
  ];
}
