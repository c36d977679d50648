import { z } from 'zod';
import { actingAndOwning, cniVolumesOf, stateOfAgents } from './agent-objects.js';
import { agentName, cleanupName, realNodes, usualSeLinuxType, type KubernetesObject } from './install-options.js';

/** What a node needs to be cleaned, as its agent had it. */
export type CleanupOptions = {
  readonly namespace: string;
  readonly image: string;
  readonly imagePullSecrets: readonly object[];
  /** Where the CNI plugin may be. */
  readonly cni: { readonly configDirectory: string; readonly binDirectory: string };
  /** Which nodes take such pods at all. Not which ones have an agent: one of before may have been elsewhere. */
  readonly nodeAffinity: object;
  /** Of the container; empty: what the runtime gives. */
  readonly seLinuxType: string;
};

/** Where nothing else is known. */
export const usualPlace = { nodeAffinity: realNodes, seLinuxType: usualSeLinuxType } as const;

const labels = { 'app.kubernetes.io/name': cleanupName, 'app.kubernetes.io/part-of': 'culvert' };
/** Next to the state of the agents, which goes as a whole. */
const parent = '/var/lib/culvert';

/**
 * A DaemonSet whose pods take rules, CNI plugin and state of an agent out of their node. A pod is ready when nothing is left
 * there; what is left, its log says. It needs no agent, no controller and nothing of the installation but the namespace.
 */
export function cleanupObjects(options: CleanupOptions): readonly KubernetesObject[] {
  const { namespace } = options;
  const metadata = { name: cleanupName, namespace, labels };
  return [
    // A cluster may give rights to accounts, as OpenShift does.
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata, automountServiceAccountToken: false },
    daemonSet(options),
  ];
}

function daemonSet(options: CleanupOptions): KubernetesObject {
  const { namespace, image, imagePullSecrets, cni, nodeAffinity, seLinuxType } = options;
  const directories = cniVolumesOf(cni);
  const remove = [
    'culvert-agent',
    'remove',
    `--state-dir=${stateOfAgents}`,
    `--cni-config-dir=${cni.configDirectory}`,
    `--cni-bin-dir=${cni.binDirectory}`,
  ].join(' ');
  const forget = `require('fs').rmSync('${stateOfAgents}', { recursive: true, force: true })`;
  const restricted = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true };
  const resources = { requests: { cpu: '10m', memory: '64Mi' } };
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: cleanupName, namespace, labels },
    spec: {
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: {
          serviceAccountName: cleanupName,
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          hostNetwork: true,
          priorityClassName: 'system-node-critical',
          terminationGracePeriodSeconds: 1,
          tolerations: [{ operator: 'Exists' }],
          affinity: { nodeAffinity },
          ...(imagePullSecrets.length === 0 ? {} : { imagePullSecrets }),
          securityContext: { runAsUser: 0, seccompProfile: { type: 'RuntimeDefault' } },
          initContainers: [
            {
              name: 'remove',
              image,
              command: ['sh', '-c', `${remove} && exec node -e "${forget}"`],
              securityContext: {
                ...restricted,
                capabilities: { drop: ['ALL'], add: actingAndOwning },
                ...(seLinuxType === '' ? {} : { seLinuxOptions: { type: seLinuxType } }),
              },
              resources,
              volumeMounts: [
                { name: 'netns', mountPath: '/run/netns', mountPropagation: 'HostToContainer' },
                { name: 'xtables-lock', mountPath: '/run/xtables.lock' },
                { name: 'state', mountPath: parent },
                ...directories.volumeMounts,
              ],
            },
          ],
          // Its being there says that the node is clean.
          containers: [
            {
              name: 'done',
              image,
              command: ['node', '-e', 'setInterval(() => undefined, 1e9)'],
              securityContext: { ...restricted, runAsUser: 65_534, capabilities: { drop: ['ALL'] } },
              resources,
            },
          ],
          volumes: [
            { name: 'netns', hostPath: { path: '/run/netns', type: 'DirectoryOrCreate' } },
            { name: 'xtables-lock', hostPath: { path: '/run/xtables.lock', type: 'FileOrCreate' } },
            { name: 'state', hostPath: { path: parent, type: 'DirectoryOrCreate' } },
            ...directories.volumes,
          ],
        },
      },
    },
  };
}

/** What the DaemonSet of the agents, as the cluster has it, says of cleaning its nodes; null: it is not ours. */
export function cleanupOptionsOf(daemonSet: unknown, usual: CleanupOptions['cni']): CleanupOptions | null {
  const { metadata, spec } = daemonSet as {
    readonly metadata?: { readonly name?: string; readonly namespace?: string };
    readonly spec?: {
      readonly template?: {
        readonly spec?: {
          readonly imagePullSecrets?: readonly object[];
          readonly affinity?: { readonly nodeAffinity?: object };
          readonly containers?: readonly {
            readonly image?: string;
            readonly command?: readonly string[];
            readonly securityContext?: { readonly seLinuxOptions?: { readonly type?: string } };
          }[];
        };
      };
    };
  };
  const pod = spec?.template?.spec;
  const [container] = pod?.containers ?? [];
  if (metadata?.name !== agentName || metadata.namespace === undefined || container?.image === undefined) return null;
  const flag = (name: string, fallback: string): string =>
    container.command?.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1) ?? fallback;
  return {
    namespace: metadata.namespace,
    image: container.image,
    imagePullSecrets: pod?.imagePullSecrets ?? [],
    cni: {
      configDirectory: flag('--cni-config-dir', usual.configDirectory),
      binDirectory: flag('--cni-bin-dir', usual.binDirectory),
    },
    nodeAffinity: pod?.affinity?.nodeAffinity ?? usualPlace.nodeAffinity,
    seLinuxType: container.securityContext?.seLinuxOptions?.type ?? '',
  };
}

/** Of the namespace: how to clean nodes, for a later run that finds no agents any more. */
export const cleanupAnnotation = 'culvert.dev/cleanup';

const recordSchema = z.object({
  image: z.string().min(1),
  imagePullSecrets: z.array(z.object({ name: z.string() })).readonly(),
  cni: z.object({ configDirectory: z.string().min(1), binDirectory: z.string().min(1) }),
  // A run of an older version recorded neither.
  nodeAffinity: z.looseObject({}).default(usualPlace.nodeAffinity),
  seLinuxType: z.string().default(usualPlace.seLinuxType),
});

/** The text of {@link cleanupAnnotation}. */
export function cleanupRecordOf({ image, imagePullSecrets, cni, nodeAffinity, seLinuxType }: CleanupOptions): string {
  return JSON.stringify({ image, imagePullSecrets, cni, nodeAffinity, seLinuxType });
}

/** What {@link cleanupAnnotation} of a namespace says; null: it says nothing that can be read. */
export function recordedCleanup(namespace: string, text: string | undefined): CleanupOptions | null {
  try {
    const { success, data } = recordSchema.safeParse(JSON.parse(text ?? 'null'));
    return success ? { namespace, ...data } : null;
  } catch {
    return null;
  }
}
