import type { MeshCheck } from '../mesh-check.js';
import { fail, warn, type Finding } from '../mesh-check.js';
import { admissionFindings, rightFindings } from './admission-checks.js';
import { itemsOf, type ClusterFacts, type Metadata } from './cluster-facts.js';
import { cniFindings, cniText, serviceFindings, serviceText } from './cni-checks.js';
import { kernelFindings, kernelForCgroup, nodeFindings, nodesText, runtimeFindings } from './node-checks.js';
import { policyFindings } from './policy-checks.js';
import { listText, notRead, unread } from './texts.js';

const oldestMinor = 32;
const meshLabel = 'culvert.dev/mesh';
const enforceLabel = 'pod-security.kubernetes.io/enforce';
const defaultClass = 'storageclass.kubernetes.io/is-default-class';

/**
 * What stands in the way of an installation in a cluster, in the order in which a person would look: one result for each check
 * that passes, and one for each single finding.
 */
export function checkCluster(facts: ClusterFacts): MeshCheck[] {
  const { planned } = facts;
  return [
    ...group('version', `the cluster is ${facts.serverVersion ?? ''}`, versionFindings(facts)),
    ...group('kinds', 'the cluster serves every kind of the installation', kindFindings(facts)),
    ...group('rights', 'you may make every object of the installation', rightFindings(facts)),
    ...group('installed', 'no Culvert is installed', installedFindings(facts)),
    ...group('namespace', `${planned.namespace} allows the pods of agents`, namespaceFindings(facts)),
    ...group('admission', admissionText(facts), admissionFindings(facts)),
    ...group('storage', storageText(facts), storageFindings(facts)),
    ...group('nodes', nodesText(facts), nodeFindings(facts)),
    ...group('kernel', `the kernel of every node is ${kernelForCgroup.join('.')} or newer`, kernelFindings(facts)),
    ...group('runtime', 'the container runtime of every node uses CNI', runtimeFindings(facts)),
    ...group('cni', cniText(facts), cniFindings(facts)),
    ...group('services', serviceText(facts), serviceFindings(facts)),
    ...group('dns', 'agents find the controller with the DNS of the cluster', dnsFindings(facts)),
    ...group('policies', 'no policy of the cluster stops the mesh', policyFindings(facts)),
    ...group('meshes', 'no other mesh captures pods', otherMeshFindings(facts)),
    hostsLine(facts),
  ];
}

/** What no API server knows: it is said, and not taken for sound. */
function hostsLine({ planned: { cni } }: ClusterFacts): MeshCheck {
  const directories = cni === null ? '' : `, and whether ${cni.configDirectory} and ${cni.binDirectory} can be written`;
  const told = cni === null ? '' : 'culvert check says after the installation whether the plugin is in the chain; ';
  return {
    check: 'hosts',
    state: 'unchecked',
    message: `whether the kernel of a node has what the rules of iptables need, and counts them${directories}, is seen on the node alone`,
    hint: `${told}an agent tries iptables with the first pod of the mesh on its node, and culvert check says where that fails: enrol one pod first`,
  };
}

function group(check: string, okMessage: string, findings: readonly Finding[]): MeshCheck[] {
  if (findings.length === 0) return [{ check, state: 'ok', message: okMessage, hint: '' }];
  return findings.map((finding) => ({ check, ...finding }));
}

function versionFindings({ serverVersion }: ClusterFacts): Finding[] {
  const [, major, minor] = /^v?(\d+)\.(\d+)/.exec(serverVersion ?? '') ?? [];
  if (major === undefined) return [warn('the API server does not say its version', 'Culvert needs Kubernetes 1.32')];
  if (Number(major) > 1 || Number(minor) >= oldestMinor) return [];
  const message = `the cluster is ${serverVersion}: its tokens of service accounts do not name the node, so no agent can join`;
  return [fail(message, `upgrade it to 1.${oldestMinor} or newer`)];
}

function kindFindings({ planned, served, servedProblem }: ClusterFacts): Finding[] {
  const missing = planned.kinds.filter((kind) => !served.has(kind));
  if (servedProblem !== null && missing.length > 0) {
    const message = `the API server does not say all kinds that it serves, so ${listText(missing)} are not checked: ${servedProblem}`;
    return [
      warn(message, 'see kubectl api-resources: an API of the cluster whose server does not answer is the usual cause'),
    ];
  }
  const monitoring = missing.filter((kind) => kind.endsWith('.monitoring.coreos.com'));
  const others = missing.filter((kind) => !monitoring.includes(kind));
  return [
    ...(monitoring.length === 0
      ? []
      : [
          fail(
            `the cluster does not serve ${listText(monitoring)}`,
            "install Prometheus' operator first, or leave --monitoring out",
          ),
        ]),
    ...(others.length === 0
      ? []
      : [fail(`the cluster does not serve ${listText(others)}`, 'take a cluster that serves them')]),
    ...planned.unknownKinds.map((kind) => warn(`nothing is checked for ${kind}`, 'check its rights yourself')),
  ];
}

function installedFindings({ installed, planned, namespaces }: ClusterFacts): Finding[] {
  if ('problem' in installed) return [notRead('what is installed of Culvert', installed.problem)];
  const [agents] = installed.items.filter(({ kind }) => kind === 'DaemonSet');
  const there = agents ?? installed.items.find(({ kind }) => kind === 'Deployment');
  const enrolled = itemsOf(namespaces).filter(({ metadata }) => metadata.labels?.[meshLabel] === 'enabled');
  if (there === undefined) {
    if (installed.items.length > 0) {
      const names = installed.items.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
      const hint = 'take it out first: culvert uninstall --yes --image IMAGE';
      return [warn(`an earlier installation has left ${listText(names)}`, hint)];
    }
    if (enrolled.length === 0) return unread({ namespaces });
    const names = enrolled.map(({ metadata }) => metadata.name);
    const message = `${listText(names)} ${names.length === 1 ? 'has' : 'have'} the label ${meshLabel}=enabled: running pods there are captured as soon as agents run`;
    return [warn(message, `take it away where that is not wanted: kubectl label namespace NAME ${meshLabel}-`)];
  }
  const { namespace = '', labels } = there.metadata;
  if (namespace !== planned.namespace) {
    const message = `Culvert is installed in ${namespace}, and a cluster has one of it`;
    return [
      fail(message, `take that out first (culvert uninstall --namespace ${namespace}), or install into ${namespace}`),
    ];
  }
  const byHelm = labels?.['app.kubernetes.io/managed-by'] === 'Helm';
  const hint = byHelm ? 'it is a release of Helm: use helm upgrade' : 'applying the objects upgrades it';
  return [warn(`Culvert is installed in ${namespace} already`, hint)];
}

function namespaceFindings({ planned, namespaces }: ClusterFacts): Finding[] {
  if ('problem' in namespaces) return [notRead('namespaces', namespaces.problem)];
  const { namespace, makesNamespace } = planned;
  if (makesNamespace) return [];
  const present = namespaces.items.find(({ metadata }) => metadata.name === namespace);
  if (present === undefined) {
    return [fail(`there is no namespace ${namespace}`, 'make it, or install without --no-create-namespace')];
  }
  const { labels = {} } = present.metadata;
  const enforced = labels[enforceLabel];
  const label = (text: string): string => `kubectl label --overwrite namespace ${namespace} ${text}`;
  return [
    ...(enforced === 'privileged'
      ? []
      : [
          (enforced === undefined ? warn : fail)(
            enforced === undefined
              ? `${namespace} has no label ${enforceLabel}: where the cluster enforces another level by default, no agent starts`
              : `${namespace} enforces the Pod Security level "${enforced}", which no agent passes`,
            label(`${enforceLabel}=privileged`),
          ),
        ]),
    ...(labels[meshLabel] === 'disabled'
      ? []
      : [warn(`${namespace} has no label ${meshLabel}=disabled`, label(`${meshLabel}=disabled`))]),
  ];
}

function admissionText({ trial: { namespace } }: ClusterFacts): string {
  return `the API server would take a pod like that of an agent (asked in ${namespace})`;
}

function storageText({ planned: { claim } }: ClusterFacts): string {
  if (claim === null) return "the controller's state needs no volume of the cluster";
  return `the cluster has the storage class of the controller's claim${claim.className === null ? ', its default' : `, ${claim.className}`}`;
}

function storageFindings({ planned: { claim }, storageClasses }: ClusterFacts): Finding[] {
  if (claim === null) return [];
  if ('problem' in storageClasses) return [notRead('storage classes', storageClasses.problem)];
  const names = storageClasses.items.map(({ metadata }) => metadata.name);
  const { className } = claim;
  const elsewhere = '--storage host-path:/var/lib/culvert with --node-selector kubernetes.io/hostname=NODE';
  if (className !== null) {
    return names.includes(className)
      ? []
      : [fail(`there is no storage class ${className}`, `name one with --storage-class, or install with ${elsewhere}`)];
  }
  const isThere = storageClasses.items.some(({ metadata }) => metadata.annotations?.[defaultClass] === 'true');
  if (isThere) return [];
  const message = 'no storage class is the default one: the claim of the controller stays pending';
  const choice = names.length === 0 ? 'install' : `name one with --storage-class (${listText(names)}), or install`;
  return [fail(message, `${choice} with ${elsewhere}`)];
}

function dnsFindings({ systemServices, served }: ClusterFacts): Finding[] {
  if ('problem' in systemServices) return [notRead('the DNS service of the cluster', systemServices.problem)];
  // It has its own in openshift-dns.
  if (served.has('securitycontextconstraints.security.openshift.io')) return [];
  const isDns = ({ name, labels }: Metadata): boolean => /dns/i.test(name) || labels?.['k8s-app'] === 'kube-dns';
  if (systemServices.items.some(({ metadata }) => isDns(metadata))) return [];
  const message = 'no service in kube-system is that of the DNS: agents may not find the controller by its name';
  return [warn(message, 'check that pods with the network of their node resolve kubernetes.default.svc')];
}

/** Labels of other meshes on namespaces, and what they mean. */
const otherLabels = [
  { label: 'istio.io/dataplane-mode', value: 'ambient', mesh: "Istio's ambient mesh" },
  { label: 'istio-injection', value: 'enabled', mesh: "Istio's sidecars" },
] as const;
const otherPrograms = [
  { pattern: /^istio-cni-node$|^ztunnel$/, mesh: "Istio's ambient mesh" },
  { pattern: /^linkerd-cni$/, mesh: "Linkerd's CNI plugin" },
  { pattern: /^kuma-cni-node$/, mesh: "Kuma's CNI plugin" },
] as const;

function otherMeshFindings({ namespaces, daemonSets }: ClusterFacts): Finding[] {
  const items = itemsOf(namespaces).map(({ metadata }) => metadata);
  const both = otherLabels.flatMap(({ label, value, mesh }) => {
    const names = items.filter(({ labels }) => labels?.[label] === value && labels[meshLabel] === 'enabled');
    if (names.length === 0) return [];
    const message = `${listText(names.map(({ name }) => name))} belong to ${mesh} and to Culvert: both would redirect the same connections`;
    return [fail(message, `take one of the labels away: ${label}, ${meshLabel}`)];
  });
  const present = otherPrograms.flatMap(({ pattern, mesh }) => {
    const found = itemsOf(daemonSets).find(({ metadata }) => pattern.test(metadata.name));
    return found === undefined ? [] : [{ mesh, name: `${found.metadata.namespace ?? ''}/${found.metadata.name}` }];
  });
  const meshes = new Map(present.map(({ mesh, name }) => [mesh, name]));
  return [
    ...unread({ namespaces, DaemonSets: daemonSets }),
    ...both,
    ...[...meshes].map(([mesh, name]) =>
      warn(
        `${mesh} is installed (DaemonSet ${name}), and its plugin is in the CNI chain too`,
        `give a namespace to one mesh only: ${meshLabel}=enabled where the other has no label`,
      ),
    ),
  ];
}
