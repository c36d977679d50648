import {
  agentName,
  apiPort,
  controllerName,
  labelsOf,
  metricsPort,
  rootsConfigMap,
  selectorOf,
  type InstallOptions,
  type KubernetesObject,
} from './install-options.js';
import { fieldsWhen, isChoice, isNot, isSet, itemsOf, itemsWhen } from './slots.js';

export const stateOfAgents = '/var/lib/culvert/agent';
const readyFile = '/run/culvert/ready';
/** An agent writes its ready file every second; on a busy node later. */
const readySeconds = 10;
/** More than the agent takes to let its connections end. */
const graceSeconds = 45;
/** The first two act on nodes. The others are for state that belongs to another user than who runs: that of an agent. */
export const actingAndOwning = ['NET_ADMIN', 'SYS_ADMIN', 'CHOWN', 'DAC_OVERRIDE'] as const;
/** Kubelet replaces it at four fifths of that. */
const tokenSeconds = 3600;

/**
 * Whether the process that has written the ready file runs (`--ready-file` says what is in it), and wrote it a moment ago. Only
 * a shell: a probe that starts Node every two seconds would cost a twentieth of a core.
 */
const readyProbe = [
  `read -r at pid began < ${readyFile} || exit 1`,
  // The probe is root, and the file's writer is not: a shell may run what it finds in an arithmetic expression.
  `for number in "$at" "$pid" "$began"; do case $number in ''|*[!0-9]*) echo "${readyFile} is damaged"; exit 1;; esac; done`,
  'read -r now _ < /proc/uptime; read -r stat < /proc/$pid/stat || exit 1; set -- ${stat##*) }',
  '[ "${20}" = "$began" ] || { echo "process $pid is not the one that was ready"; exit 1; }',
  `age=$((\${now%%.*} - at)); [ $age -lt ${readySeconds} ] || { echo "the agent has hung for $age s"; exit 1; }`,
].join('\n');

/** One agent on each node. */
export function agentObjects(options: InstallOptions): readonly KubernetesObject[] {
  const labels = labelsOf('agent');
  const { namespace, agent } = options;
  return [
    {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: agentName, namespace, labels },
      spec: {
        selector: { matchLabels: selectorOf('agent') },
        updateStrategy: {
          type: 'RollingUpdate',
          rollingUpdate: {
            // The new agent takes the sockets of the old one, so no new connection is refused while both are there.
            ...fieldsWhen(agent.surge, { maxSurge: 1, maxUnavailable: 0 }),
            ...fieldsWhen(isNot(agent.surge), { maxSurge: 0, maxUnavailable: 1 }),
          },
        },
        template: {
          metadata: { labels, ...fieldsWhen(isSet(agent.podAnnotations), { annotations: agent.podAnnotations }) },
          spec: agentPod(options),
        },
      },
    },
  ];
}

function agentPod(options: InstallOptions): object {
  const { namespace, image, imagePullSecrets, hostProbes, agent, cni, monitoring } = options;
  const plugin = cniPlugin(cni, namespace);
  return {
    serviceAccountName: agentName,
    // It has a token of its own for the controller, and none for the API of Kubernetes.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    hostNetwork: true,
    dnsPolicy: 'ClusterFirstWithHostNet',
    priorityClassName: 'system-node-critical',
    terminationGracePeriodSeconds: graceSeconds,
    tolerations: agent.tolerations,
    ...fieldsWhen(isSet(agent.nodeSelector), { nodeSelector: agent.nodeSelector }),
    affinity: { nodeAffinity: agent.nodeAffinity },
    ...fieldsWhen(isSet(imagePullSecrets), { imagePullSecrets }),
    securityContext: { runAsUser: 0, seccompProfile: { type: 'RuntimeDefault' } },
    containers: [
      {
        name: 'agent',
        image,
        command: [
          'culvert-agent',
          'run',
          `--controller=https://${controllerName}.${namespace}.svc:${apiPort}`,
          '--token-file=/var/run/secrets/culvert/token',
          '--controller-ca-file=/var/run/culvert-ca/ca.crt',
          `--state-dir=${stateOfAgents}`,
          `--ready-file=${readyFile}`,
          '--take-over',
          '--when-replaced=stay',
          '--remove-when-uninstalled',
          `--privileges=${agent.privileges}`,
          `--host-probes=${hostProbes}`,
          ...itemsWhen(cni.enabled, ...plugin.flags),
          // Who reaches a node reads them, so only where they are scraped.
          ...itemsWhen(monitoring.podMonitor, `--metrics-address=[::]:${metricsPort}`),
          ...itemsOf(agent.extraArgs),
        ],
        env: [
          { name: 'CULVERT_AGENT_NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
          ...itemsOf(agent.extraEnv),
        ],
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: {
            drop: ['ALL'],
            add: [
              ...actingAndOwning,
              // Until the process that parses the network is another user, who has none of all.
              ...itemsWhen(isChoice(agent.privileges, 'split'), 'SETGID', 'SETUID'),
            ],
          },
          ...fieldsWhen(isSet(agent.seLinuxType), { seLinuxOptions: { type: agent.seLinuxType } }),
        },
        // No port of the host: the agent before would answer for this one.
        readinessProbe: { exec: { command: ['sh', '-c', readyProbe] }, periodSeconds: 2, timeoutSeconds: 5 },
        // No liveness probe: to end an agent that hangs would end connections that its data plane still carries.
        resources: agent.resources,
        volumeMounts: [
          // Namespaces that appear later are seen too.
          { name: 'netns', mountPath: '/run/netns', mountPropagation: 'HostToContainer' },
          { name: 'xtables-lock', mountPath: '/run/xtables.lock' },
          { name: 'sandboxes', mountPath: '/var/lib/cni/results', readOnly: true },
          { name: 'state', mountPath: stateOfAgents },
          { name: 'run', mountPath: '/run/culvert' },
          { name: 'token', mountPath: '/var/run/secrets/culvert', readOnly: true },
          { name: 'ca', mountPath: '/var/run/culvert-ca', readOnly: true },
          ...itemsWhen<object>(cni.enabled, ...plugin.volumeMounts),
          ...itemsOf(agent.extraVolumeMounts),
        ],
      },
    ],
    volumes: [
      { name: 'netns', hostPath: { path: '/run/netns', type: 'DirectoryOrCreate' } },
      { name: 'xtables-lock', hostPath: { path: '/run/xtables.lock', type: 'FileOrCreate' } },
      { name: 'sandboxes', hostPath: { path: '/var/lib/cni/results', type: 'DirectoryOrCreate' } },
      { name: 'state', hostPath: { path: stateOfAgents, type: 'DirectoryOrCreate' } },
      { name: 'run', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
      {
        name: 'token',
        projected: {
          sources: [{ serviceAccountToken: { audience: 'culvert', expirationSeconds: tokenSeconds, path: 'token' } }],
        },
      },
      { name: 'ca', configMap: { name: rootsConfigMap, optional: true } },
      ...itemsWhen<object>(cni.enabled, ...plugin.volumes),
      ...itemsOf(agent.extraVolumes),
    ],
  };
}

function cniPlugin(cni: InstallOptions['cni'], namespace: string) {
  return {
    flags: [
      `--cni-socket=${stateOfAgents}/cni.sock`,
      `--cni-config-dir=${cni.configDirectory}`,
      `--cni-bin-dir=${cni.binDirectory}`,
      `--cni-own-namespace=${namespace}`,
    ],
    ...cniVolumesOf(cni),
  };
}

/** The directories have the same path in the pod, because what the agent writes there names paths of the node. */
export function cniVolumesOf({ configDirectory, binDirectory }: Omit<InstallOptions['cni'], 'enabled'>) {
  const directories = [
    { name: 'cni-config', path: configDirectory },
    { name: 'cni-bin', path: binDirectory },
  ];
  return {
    volumeMounts: directories.map(({ name, path }) => ({ name, mountPath: path })),
    volumes: directories.map(({ name, path }) => ({ name, hostPath: { path, type: 'DirectoryOrCreate' } })),
  };
}
