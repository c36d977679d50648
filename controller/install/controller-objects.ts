import {
  apiPort,
  controllerName,
  controllerUser,
  labelsOf,
  leaseName,
  natsPort,
  rootsConfigMap,
  selectorOf,
  startupTaintKey,
  webhookName,
  type InstallOptions,
  type KubernetesObject,
} from './install-options.js';
import { fieldsWhen, isChoice, isNumber, isSet, itemsOf, itemsWhen, joined } from './slots.js';

const statePath = '/var/lib/culvert/controller';
const selector = selectorOf('controller');
/** No pod has this label: the controller that serves makes the endpoint of the Service itself. */
const leadsTo = 'culvert.dev/leads-to';

/** The controller, how agents and people reach it, and what keeps others away from it. */
export function controllerObjects(options: InstallOptions): readonly KubernetesObject[] {
  const {
    namespace,
    controller: { replicas, storage, podDisruptionBudget, networkPolicy },
  } = options;
  const labels = labelsOf('controller');
  const metadata = { name: controllerName, namespace, labels };
  return [
    // The controller writes the roots of the mesh into it.
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: rootsConfigMap, namespace, labels: labelsOf('mesh') } },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata,
      spec: {
        selector: { ...selector, ...fieldsWhen(isNumber(replicas, 2), { [leadsTo]: 'the-one-that-serves' }) },
        ports: [
          { name: 'https', port: apiPort, targetPort: apiPort },
          { name: 'nats', port: natsPort, targetPort: natsPort },
        ],
      },
    },
    ...itemsWhen(isChoice(storage.kind, 'claim'), claim(options)),
    // Without a holder: the first one waits as long as for one that was lost, then it has it.
    ...itemsWhen<KubernetesObject>(isNumber(replicas, 2), {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { ...metadata, name: leaseName },
      spec: {},
    }),
    deployment(options),
    ...itemsWhen<KubernetesObject>(podDisruptionBudget, {
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata,
      spec: { ...unavailableOf(options.controller), selector: { matchLabels: selector } },
    }),
    ...itemsWhen<KubernetesObject>(networkPolicy, {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata,
      spec: {
        podSelector: { matchLabels: selector },
        policyTypes: ['Ingress'],
        // From everywhere: agents have the addresses of their nodes, which no selector names.
        ingress: [{ ports: [apiPort, natsPort].map((port) => ({ protocol: 'TCP', port })) }],
      },
    }),
  ];
}

function claim({ namespace, controller: { storage } }: InstallOptions): KubernetesObject {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: controllerName, namespace, labels: labelsOf('controller') },
    spec: {
      accessModes: [storage.accessMode],
      resources: { requests: { storage: storage.size } },
      ...fieldsWhen(isSet(storage.className), { storageClassName: storage.className }),
    },
  };
}

function deployment(options: InstallOptions): KubernetesObject {
  const { namespace, image, imagePullSecrets, trustDomain, controller, webhook, policies } = options;
  const { nodeSelector, nodeAffinity, tolerations, podAnnotations, replicas, resources, storage } = controller;
  const labels = labelsOf('controller');
  const name = `${controllerName}.${namespace}.svc`;
  // A folder of the volume, so that it is the controller's alone, without the lost+found of a file system.
  const state = { name: 'state', mountPath: statePath, subPath: 'state' };
  const restricted = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: controllerName, namespace, labels },
    spec: {
      replicas,
      // Two versions never take turns with one state, and a pod never waits for a volume that an older one has.
      strategy: { type: 'Recreate' },
      selector: { matchLabels: selector },
      template: {
        metadata: { labels, ...fieldsWhen(isSet(podAnnotations), { annotations: podAnnotations }) },
        spec: {
          serviceAccountName: controllerName,
          // Of the API of Kubernetes; its audience is the default one.
          automountServiceAccountToken: true,
          enableServiceLinks: false,
          priorityClassName: 'system-cluster-critical',
          terminationGracePeriodSeconds: 60,
          ...fieldsWhen(isSet(imagePullSecrets), { imagePullSecrets }),
          ...fieldsWhen(isSet(nodeSelector), { nodeSelector }),
          affinity: { nodeAffinity, ...fieldsWhen(isNumber(replicas, 2), affinityOf(storage)) },
          // Without a controller no node would lose the taint. Its pod is outside the mesh.
          tolerations: [
            ...itemsWhen<object>(options.startupTaint, { key: startupTaintKey, operator: 'Exists' }),
            ...itemsOf(tolerations),
          ],
          securityContext: {
            runAsUser: controllerUser,
            runAsGroup: controllerUser,
            runAsNonRoot: true,
            seccompProfile: { type: 'RuntimeDefault' },
          },
          initContainers: [ownership(image, state)],
          containers: [
            {
              name: 'controller',
              image,
              command: [
                'culvert-controller',
                'run',
                `--state-dir=${statePath}`,
                `--trust-domain=${trustDomain}`,
                `--advertise=${name}`,
                '--kubernetes-api=https://kubernetes.default.svc',
                `--kubernetes-namespace=${namespace}`,
                ...itemsWhen(isNumber(replicas, 2), `--kubernetes-lease=${leaseName}`),
                ...itemsWhen(webhook.enabled, `--kubernetes-webhook=${webhookName}`),
                ...itemsWhen(isSet(policies), `--kubernetes-policies=${joined(policies)}`),
                ...itemsWhen(options.ambientLabels, '--kubernetes-ambient'),
                ...itemsWhen(options.startupTaint, '--kubernetes-startup-taint'),
                ...itemsOf(controller.extraArgs),
              ],
              env: [{ name: 'CULVERT_CONTEXT', value: `${statePath}/admin.yaml` }, ...itemsOf(controller.extraEnv)],
              securityContext: { ...restricted, capabilities: { drop: ['ALL'] } },
              ports: [
                { name: 'https', containerPort: apiPort },
                { name: 'nats', containerPort: natsPort },
              ],
              readinessProbe: { httpGet: { scheme: 'HTTPS', path: '/readyz', port: apiPort }, periodSeconds: 5 },
              livenessProbe: {
                httpGet: { scheme: 'HTTPS', path: '/healthz', port: apiPort },
                initialDelaySeconds: 60,
                periodSeconds: 20,
                timeoutSeconds: 10,
                failureThreshold: 6,
              },
              resources,
              volumeMounts: [state, { name: 'tmp', mountPath: '/tmp' }, ...itemsOf(controller.extraVolumeMounts)],
            },
          ],
          volumes: [
            { name: 'state', ...volumeOf(storage) },
            { name: 'tmp', emptyDir: {} },
            ...itemsOf(controller.extraVolumes),
          ],
        },
      },
    },
  };
}

/**
 * How many a drain may take at once. Where both are on one node, both: in place of the first, a pod would wait elsewhere for the
 * state that the second has, and the drain for that pod.
 */
function unavailableOf({ replicas, storage: { kind, accessMode } }: InstallOptions['controller']): object {
  const [one, both] = [{ maxUnavailable: 1 }, { maxUnavailable: 2 }];
  return {
    ...fieldsWhen(isNumber(replicas, 1), one),
    ...fieldsWhen(isNumber(replicas, 2), {
      ...fieldsWhen(isChoice(kind, 'host-path'), both),
      ...fieldsWhen(isChoice(kind, 'claim'), {
        ...fieldsWhen(isChoice(accessMode, 'ReadWriteOnce'), both),
        ...fieldsWhen(isChoice(accessMode, 'ReadWriteMany'), one),
      }),
    }),
  };
}

/**
 * Two pods are on one node where only one node can have the volume, and else on two. A directory of a node is another one
 * on each node, so there it is a must, which the scheduler waives for the first pod of a group that names itself. Of a
 * volume the cluster sees to it that no other one is there, and pods of a dead node, which stay in the API, must not keep
 * new ones from another node.
 */
function affinityOf({ kind, accessMode }: InstallOptions['controller']['storage']): object {
  const near = { labelSelector: { matchLabels: selector }, topologyKey: 'kubernetes.io/hostname' };
  const preferred = { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: near }] };
  const isShared = isChoice(accessMode, 'ReadWriteMany');
  const isOfNode = isChoice(accessMode, 'ReadWriteOnce');
  return {
    ...fieldsWhen(isChoice(kind, 'claim'), {
      ...fieldsWhen(isShared, { podAntiAffinity: preferred }),
      ...fieldsWhen(isOfNode, { podAffinity: preferred }),
    }),
    ...fieldsWhen(isChoice(kind, 'host-path'), {
      podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [near] },
    }),
  };
}

function volumeOf({ kind, path }: InstallOptions['controller']['storage']): object {
  return {
    ...fieldsWhen(isChoice(kind, 'claim'), { persistentVolumeClaim: { claimName: controllerName } }),
    ...fieldsWhen(isChoice(kind, 'host-path'), { hostPath: { path, type: 'DirectoryOrCreate' } }),
    ...fieldsWhen(isChoice(kind, 'empty-dir'), { emptyDir: {} }),
  };
}

/**
 * A directory that kubelet makes is root's. A group of the pod would open the keys in it to that group at each mount. Some
 * volumes refuse root such changes (NFS with root_squash, access points of EFS): there it has to be right, or at least the
 * controller's to write and no other user's.
 */
export const ownershipScript = `const fs = require('fs')
const self = require('node:process')
const directory = '${statePath}', user = ${controllerUser}
const { uid, gid, mode } = fs.statSync(directory)
try {
  if (uid !== user || gid !== user) fs.chownSync(directory, user, user)
  if ((mode & 0o777) !== 0o700) fs.chmodSync(directory, 0o700)
} catch (error) {
  const now = fs.statSync(directory)
  const trial = "const p = require('node:process').argv[1] + '/.trial', fs = require('fs'); fs.writeFileSync(p, ''); fs.rmSync(p)"
  const { status } = require('child_process').spawnSync(self.execPath, ['-e', trial, directory], { uid: user, gid: user })
  if (status !== 0 || (now.mode & 0o077) !== 0) {
    const is = 'belongs to ' + now.uid + ':' + now.gid + ' with mode 0' + (now.mode & 0o777).toString(8)
    const give = 'give the directory (on EFS the access point) to ' + user + ':' + user + ' with mode 0700'
    const cure = 'export the volume with no_root_squash, or ' + give
    console.error(directory + ' ' + is + ', and the volume refuses root to change that (' + error.code + '): ' + cure)
    self.exitCode = 1
  }
}`;

function ownership(image: string, state: { readonly name: string; readonly mountPath: string }): object {
  return {
    name: 'ownership',
    image,
    command: ['node', '-e', ownershipScript],
    securityContext: {
      runAsUser: 0,
      runAsNonRoot: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      // FOWNER: it changes the mode of a directory that is no longer its own. The last two: it tries to write as the controller.
      capabilities: { drop: ['ALL'], add: ['CHOWN', 'FOWNER', 'SETGID', 'SETUID'] },
    },
    volumeMounts: [state],
  };
}
