/** Where an API server has the kinds that the controller follows. */
export const clusterPaths = {
  namespaces: '/api/v1/namespaces',
  services: '/api/v1/services',
  pods: '/api/v1/pods',
} as const;

export const podsOfService = 20;
const podsOfNode = 50;

export function clusterService(number: number) {
  return {
    metadata: { namespace: 'shop', name: `app-${number}` },
    spec: {
      clusterIPs: [`10.96.${number >> 8}.${number & 255}`],
      ports: [{ port: 80, targetPort: 'http', protocol: 'TCP' }],
      selector: { app: `app-${number}` },
    },
  };
}

/** A pod of about 5 KB, as an API server sends one of two containers with probes, mounts and resources. */
export function clusterPod(o: {
  readonly number: number;
  readonly round?: string;
  readonly isReady?: boolean;
  /** Changes nothing that the mesh has to know. */
  readonly at?: number;
}) {
  const { number, round = 'r', isReady = true, at = 0 } = o;
  const app = `app-${Math.floor(number / podsOfService)}`;
  const time = new Date(Date.UTC(2026, 0, 1) + at * 1000).toISOString();
  const name = `${app}-7d9c5b8f6d-${number}`;
  const condition = (type: string, status: string) => ({ type, status, lastProbeTime: time, lastTransitionTime: time });
  return {
    metadata: {
      namespace: 'shop',
      name,
      uid: `6f9619ff-8b86-d011-b42d-${String(number).padStart(12, '0')}`,
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { app, 'pod-template-hash': '7d9c5b8f6d', round },
      ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: `${app}-7d9c5b8f6d`, controller: true }],
      managedFields: ['kube-controller-manager', 'kubelet'].map((manager) => managedField(manager, time)),
    },
    spec: {
      nodeName: `node-${Math.floor(number / podsOfNode)}`,
      serviceAccountName: app,
      containers: ['web', 'log'].map((container) => containerOf(container, app)),
      tolerations: [
        { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
      ],
    },
    status: {
      phase: 'Running',
      podIPs: [{ ip: `10.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}` }],
      conditions: [
        condition('Ready', isReady ? 'True' : 'False'),
        ...['Initialized', 'ContainersReady', 'PodScheduled'].map((type) => condition(type, 'True')),
      ],
      containerStatuses: ['web', 'log'].map((container) => ({
        name: container,
        ready: isReady,
        restartCount: 0,
        image: `registry.example.net/${app}/${container}:1.0`,
        containerID: `containerd://${String(number).padStart(64, '0')}`,
        state: { running: { startedAt: time } },
      })),
    },
  };
}

function containerOf(name: string, app: string): object {
  const probe = {
    httpGet: { path: '/healthz', port: 'http' },
    periodSeconds: 10,
    timeoutSeconds: 1,
    failureThreshold: 3,
  };
  return {
    name,
    image: `registry.example.net/${app}/${name}:1.0`,
    ports: name === 'web' ? [{ name: 'http', containerPort: 8080, protocol: 'TCP' }] : [],
    env: Array.from({ length: 8 }, (_, at) => ({ name: `SETTING_${at}`, value: `value of setting ${at} of ${app}` })),
    resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
    volumeMounts: [{ name: 'token', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true }],
    readinessProbe: probe,
    livenessProbe: probe,
  };
}

function managedField(manager: string, time: string): object {
  const fields = ['containers', 'conditions', 'containerStatuses', 'podIPs', 'phase', 'startTime'];
  return {
    manager,
    operation: 'Update',
    apiVersion: 'v1',
    time,
    fieldsType: 'FieldsV1',
    fieldsV1: Object.fromEntries(fields.map((field) => [`f:${field}`, { '.': {}, 'k:{"type":"Ready"}': {} }])),
  };
}
