import type { Command } from 'commander';
import { isTrustDomain } from '../../../shared/identity.js';
import { version } from '../../../shared/version.js';
import { defaultValues, type InstallValues } from '../../install/install-options.js';
import { installObjects } from '../../install/install-objects.js';
import {
  accessModes,
  agentPrivileges,
  failurePolicies,
  policyKinds,
  valuePatterns,
} from '../../install/install-values.js';
import { didYouMean } from '../../../shared/nearest-name.js';
import { customDefinitions } from '../../resources/custom/custom-definitions.js';
import type { Cli } from '../cli.js';
import { usageError } from '../exit-codes.js';
import { lazyYaml } from '../view/lazy-yaml.js';

type Flags = {
  readonly namespace: string;
  readonly image: string;
  readonly trustDomain: string;
  readonly hostProbes: string;
  readonly ambientLabels?: true;
  readonly startupTaint?: true;
  readonly replicas: string;
  readonly storage: string;
  readonly storageAccessMode: string;
  readonly storageSize: string;
  readonly storageClass?: string;
  readonly nodeSelector: readonly string[];
  readonly agentNodeSelector: readonly string[];
  readonly agentPrivileges: string;
  readonly seLinuxType: string;
  readonly surge: boolean;
  readonly openshift?: true;
  readonly cni: boolean;
  readonly cniConfigDir: string;
  readonly cniBinDir: string;
  readonly imagePullSecret: readonly string[];
  readonly createNamespace: boolean;
  readonly networkPolicy: boolean;
  readonly disruptionBudget: boolean;
  readonly quotaForCriticalPods?: true;
  readonly webhook: boolean;
  readonly webhookFailurePolicy: string;
  readonly policies: readonly string[];
  readonly monitoring: readonly string[];
  readonly crds: boolean;
};

const defaults = defaultValues(version);
/** What `--monitoring` may name. */
const monitoringParts = { 'pod-monitor': 'podMonitor', 'alert-rules': 'alertRules', dashboard: 'dashboard' } as const;

/** `culvert install`: prints what makes a cluster a mesh. It talks to no cluster: kubectl applies what it prints. */
export function addInstallCommand(program: Command, cli: Cli): void {
  program
    .command('install')
    .description('Print the objects that install Culvert in a Kubernetes cluster, for kubectl apply -f -.')
    .option('--namespace <namespace>', 'where controller and agents run', defaults.namespace)
    .option('--image <image>', 'container image with the programs of this version', defaults.image)
    .option('--trust-domain <domain>', 'of every identity; fixed at the first start', defaults.trustDomain)
    .option(
      '--host-probes <programs>',
      'who on a node may probe its pods without a rule: uid:0 is kubelet and all of root there; cgroup:/system.slice/kubelet.service is narrower, where kubelet is that unit',
      defaults.hostProbes,
    )
    .option(
      '--ambient-labels',
      "istio.io/dataplane-mode=ambient brings pods into the mesh, too, and none keeps them out; only without Istio's own ambient mode",
    )
    .option(
      '--startup-taint',
      'the controller takes the taint culvert.dev/agent-not-ready off a node whose agent captures new pods; for nodes that register with it',
    )
    .option(
      '--replicas <number>',
      'controllers: 1, or 2, of which one stands by and takes over when the other dies',
      String(defaults.controller.replicas),
    )
    .option(
      '--storage <kind>',
      "where the controller's state is: claim (a volume of the cluster), host-path:/PATH (of the node that --node-selector names), or empty-dir (lost with the pod, for a trial)",
      defaults.controller.storage.kind,
    )
    .option('--storage-size <quantity>', 'of the claim', defaults.controller.storage.size)
    .option(
      '--storage-access-mode <mode>',
      'of the claim: ReadWriteOnce, or ReadWriteMany, with which a second controller can be on another node',
      defaults.controller.storage.accessMode,
    )
    .option('--storage-class <class>', "of the claim (default: the cluster's)")
    .option('--node-selector <label=value...>', 'nodes that the controller may run on', [])
    .option('--agent-node-selector <label=value...>', 'nodes that have an agent (default: all with Linux)', [])
    .option('--no-surge', 'an update ends the old agent of a node before it makes the new one: for full nodes')
    .option(
      '--se-linux-type <type>',
      'of the agents, where SELinux is enforced; none leaves it to the runtime',
      defaults.agent.seLinuxType,
    )
    .option('--openshift', 'the accounts may use the SecurityContextConstraints privileged of OpenShift')
    .option(
      '--agent-privileges <kind>',
      'split: what parses the network has no capability; whole: the one process of an agent has all, where a policy of the cluster refuses SETUID or SETGID',
      defaults.agent.privileges,
    )
    .option('--cni-config-dir <path>', 'where the nodes have the configuration of CNI', defaults.cni.configDirectory)
    .option('--cni-bin-dir <path>', 'where the nodes have the CNI plugins', defaults.cni.binDirectory)
    .option('--no-cni', 'without the CNI plugin: a new pod is outside the mesh for up to half a second')
    .option('--image-pull-secret <name...>', 'secrets of the namespace with which nodes fetch the image', [])
    .option('--no-create-namespace', 'the namespace is there, with the labels that it needs')
    .option('--no-network-policy', "without the NetworkPolicy that leaves only the controller's ports open")
    .option('--no-disruption-budget', 'without the PodDisruptionBudget of the controller')
    .option(
      '--quota-for-critical-pods',
      'with a quota that allows pods of system classes in the namespace, for clusters that limit them, such as GKE',
    )
    .option('--no-webhook', 'without the webhook by which kubectl says at once what is wrong with a rule')
    .option(
      '--webhook-failure-policy <policy>',
      'what the API server does with a rule while the controller does not answer: Ignore takes it, Fail refuses it',
      defaults.webhook.failurePolicy,
    )
    .option(
      '--policies <kinds...>',
      `kinds whose objects in the cluster are rules and routes too, and are only read: ${policyKinds.join(', ')}`,
      [],
    )
    .option(
      '--monitoring <parts...>',
      "pod-monitor (metrics of agents are then open at their nodes), alert-rules, dashboard: for Prometheus' operator and Grafana's sidecar",
      [],
    )
    .option('--crds', 'print only the definitions of the custom resources, which are applied first', false)
    .addHelpText('after', '\nExample: culvert install --crds | kubectl apply --server-side -f -')
    .addHelpText('after', 'Example: culvert install --image registry.example.net/culvert:0.1.0 | kubectl apply -f -')
    .addHelpText(
      'after',
      'Example: culvert install --image registry.example.net/culvert:0.1.0 --storage host-path:/var/lib/culvert --node-selector kubernetes.io/hostname=n1',
    )
    .action((flags: Flags) => {
      const { stringify } = lazyYaml();
      const objects = flags.crds ? customDefinitions() : installObjects(valuesOf(flags));
      cli.io.print(
        objects
          // Kubectl reads YAML 1.1, where "yes" is no text.
          .map((object) => stringify(object, { lineWidth: 0, version: '1.1', aliasDuplicateObjects: false }))
          .join('---\n')
          .trimEnd(),
      );
    });
}

/** Throws a usage error. */
function valuesOf(flags: Flags): InstallValues {
  const { namespace, image, trustDomain, hostProbes, nodeSelector } = flags;
  if (!fits(namespace, 'namespace')) {
    throw usageError(`--namespace: "${namespace}" is no name of a namespace`, 'use lower-case letters, digits and "-"');
  }
  if (!fits(image, 'image')) {
    throw usageError(`--image: "${image}" is no image`, 'write it as REGISTRY/culvert:VERSION');
  }
  if (!isTrustDomain(trustDomain)) {
    throw usageError(`--trust-domain: "${trustDomain}" is none`, 'use a name such as mesh.example.net');
  }
  if (!fits(hostProbes, 'hostProbes')) {
    throw usageError(
      `--host-probes: "${hostProbes}" names no program`,
      'write uid:0 or cgroup:/system.slice/kubelet.service',
    );
  }
  return {
    ...defaults,
    namespace,
    createNamespace: flags.createNamespace,
    image,
    imagePullSecrets: flags.imagePullSecret.map((name) => ({ name })),
    trustDomain,
    hostProbes,
    ambientLabels: flags.ambientLabels ?? false,
    startupTaint: flags.startupTaint ?? false,
    controller: {
      ...defaults.controller,
      replicas: replicasOf(flags),
      storage: storageOf(flags),
      nodeSelector: labelsOf('--node-selector', nodeSelector),
      podDisruptionBudget: flags.disruptionBudget,
      networkPolicy: flags.networkPolicy,
    },
    webhook: webhookOf(flags),
    policies: policiesOf(flags.policies),
    agent: {
      ...defaults.agent,
      privileges: privilegesOf(flags),
      nodeSelector: labelsOf('--agent-node-selector', flags.agentNodeSelector),
      seLinuxType: seLinuxTypeOf(flags),
      surge: flags.surge,
    },
    cni: cniOf(flags),
    openShift: flags.openshift ?? false,
    quotaForCriticalPods: flags.quotaForCriticalPods ?? false,
    monitoring: monitoringOf(flags.monitoring),
  };
}

function fits(text: string, pattern: keyof typeof valuePatterns): boolean {
  return new RegExp(valuePatterns[pattern]).test(text);
}

function privilegesOf({ agentPrivileges: asked }: Flags): string {
  if (agentPrivileges.some((kind) => kind === asked)) return asked;
  throw usageError(`--agent-privileges: "${asked}" is not known`, `use ${agentPrivileges.join(' or ')}`);
}

function cniOf({ cni, cniConfigDir, cniBinDir }: Flags): InstallValues['cni'] {
  const asked = { '--cni-config-dir': cniConfigDir, '--cni-bin-dir': cniBinDir };
  for (const [option, path] of Object.entries(asked)) {
    if (fits(path, 'directory')) continue;
    throw usageError(`${option}: "${path}" is no directory of a node`, 'write an absolute path, as /etc/cni/net.d');
  }
  return { enabled: cni, configDirectory: cniConfigDir, binDirectory: cniBinDir };
}

function webhookOf({ webhook, webhookFailurePolicy }: Flags): InstallValues['webhook'] {
  const failurePolicy = failurePolicies.find((policy) => policy === webhookFailurePolicy);
  if (failurePolicy === undefined) {
    const wrong = `--webhook-failure-policy: "${webhookFailurePolicy}" is none`;
    throw usageError(wrong, `use ${failurePolicies.join(' or ')}`);
  }
  return { enabled: webhook, failurePolicy };
}

function policiesOf(kinds: readonly string[]): readonly string[] {
  const asked = [...new Set(kinds.flatMap((each) => each.split(',')))];
  const unknown = asked.find((kind) => !policyKinds.includes(kind));
  if (unknown === undefined) return asked;
  const hint = didYouMean(unknown, policyKinds, `use some of ${policyKinds.join(', ')}`);
  throw usageError(`--policies: "${unknown}" is no kind that can be taken`, hint);
}

function monitoringOf(parts: readonly string[]): InstallValues['monitoring'] {
  const unknown = parts.find((part) => !Object.hasOwn(monitoringParts, part));
  if (unknown !== undefined) {
    throw usageError(`--monitoring: "${unknown}" is none`, `use ${Object.keys(monitoringParts).join(', ')}`);
  }
  const wanted = Object.entries(monitoringParts).map(([part, key]) => [key, parts.includes(part)]);
  return Object.fromEntries(wanted) as InstallValues['monitoring'];
}

function replicasOf({ replicas, storage }: Flags): number {
  if (replicas !== '1' && replicas !== '2') throw usageError(`--replicas: "${replicas}" is none`, 'use 1 or 2');
  if (replicas === '2' && storage === 'empty-dir') {
    const hint = 'use --storage claim or host-path: the one that takes over needs the state of the other';
    throw usageError('--replicas 2 cannot have --storage empty-dir', hint);
  }
  return Number(replicas);
}

function storageOf(flags: Flags): InstallValues['controller']['storage'] {
  const { storage, storageSize: size, storageClass, nodeSelector } = flags;
  const accessMode = accessModes.find((mode) => mode === flags.storageAccessMode);
  if (accessMode === undefined) {
    const wrong = `--storage-access-mode: "${flags.storageAccessMode}" is none`;
    throw usageError(wrong, `use ${accessModes.join(' or ')}`);
  }
  const usual = defaults.controller.storage;
  if (storage === 'claim') {
    if (!fits(size, 'quantity')) {
      throw usageError(`--storage-size: "${size}" is no quantity`, 'write it as 2Gi');
    }
    return { ...usual, accessMode, size, className: storageClass ?? '' };
  }
  if (storageClass !== undefined) throw usageError('--storage-class needs --storage claim', 'leave one of them out');
  if (storage === 'empty-dir') return { ...usual, kind: storage };
  const path = storage.startsWith('host-path:') ? storage.slice('host-path:'.length) : '';
  if (!fits(path, 'directory')) {
    throw usageError(`--storage: "${storage}" is none`, 'use claim, empty-dir, or host-path: and an absolute path');
  }
  if (nodeSelector.length === 0) {
    throw usageError(
      '--storage host-path needs the node that has it',
      'add --node-selector kubernetes.io/hostname=NODE, or the controller finds its state on one node only',
    );
  }
  return { ...usual, kind: 'host-path', path };
}

function seLinuxTypeOf({ seLinuxType }: Flags): string {
  if (seLinuxType === 'none') return '';
  if (fits(seLinuxType, 'seLinuxType')) return seLinuxType;
  throw usageError(
    `--se-linux-type: "${seLinuxType}" is no type`,
    `write it as ${defaults.agent.seLinuxType}, or none`,
  );
}

function labelsOf(option: string, texts: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    texts.map((text) => {
      const [, key, value] = /^([A-Za-z0-9][\w./-]*)=([\w.-]*)$/.exec(text) ?? [];
      if (key === undefined || value === undefined) {
        throw usageError(`${option}: "${text}" is no label`, 'write it as kubernetes.io/hostname=n1');
      }
      return [key, value];
    }),
  );
}
