import type { ClusterFacts, Listed, Metadata, Right, Trial } from '../view/preflight/cluster-facts.js';
import { accessText, type Access, type PlannedInstallation } from '../view/preflight/planned-installation.js';
import type { Kubectl } from './kubectl.js';

const rbac = 'rbac.authorization.k8s.io';
const timeout = '--request-timeout=30s';
/** Kinds of policies that are for pods of all namespaces. A cluster has some of them, or none. */
const clusterPolicyKinds = [
  'ciliumclusterwidenetworkpolicies.cilium.io',
  'globalnetworkpolicies.crd.projectcalico.org',
  'clusternetworkpolicies.policy.networking.k8s.io',
  'adminnetworkpolicies.policy.networking.k8s.io',
  'baselineadminnetworkpolicies.policy.networking.k8s.io',
  'clusternetworkpolicies.crd.antrea.io',
] as const;
const installedKinds = ['deployments.apps', 'daemonsets.apps', `clusterroles.${rbac}`, `clusterrolebindings.${rbac}`];

type Named = { readonly kind: string; readonly metadata: Metadata };

/**
 * Reads of a cluster what an installation depends on. It changes nothing: a pod and the questions about rights are never stored.
 * What cannot be read is said in its place. Errors: `KUBECTL`, where the API server does not answer.
 */
export async function surveyCluster(kubectl: Kubectl, planned: PlannedInstallation): Promise<ClusterFacts> {
  const version = JSON.parse(await kubectl.succeed(['version', '-o', 'json', timeout])) as {
    readonly serverVersion?: { readonly gitVersion?: string };
  };
  const served = new Set((await kubectl.run(['api-resources', '-o', 'name', timeout])).out.split('\n'));
  const list = <T>(...args: readonly string[]): Promise<Listed<T>> => listed<T>(kubectl, args);
  /** Nothing, of kinds that the cluster does not have. */
  const listServed = async <T>(kinds: readonly string[], ...args: readonly string[]): Promise<Listed<T>> => {
    const known = kinds.filter((kind) => served.has(kind));
    return known.length === 0 ? { items: [] } : await list<T>(known.join(','), ...args);
  };
  const [
    nodes,
    namespaces,
    daemonSets,
    storageClasses,
    networkPolicies,
    policies,
    runtimeClasses,
    installed,
    services,
  ] = await Promise.all([
    list<Items<'nodes'>>('nodes'),
    list<Items<'namespaces'>>('namespaces'),
    list<Items<'daemonSets'>>('daemonsets.apps', '--all-namespaces'),
    list<Items<'storageClasses'>>('storageclasses.storage.k8s.io'),
    list<Items<'networkPolicies'>>('networkpolicies.networking.k8s.io', '--all-namespaces'),
    listServed<Named>(clusterPolicyKinds),
    list<Items<'runtimeClasses'>>('runtimeclasses.node.k8s.io'),
    list<Items<'installed'>>(installedKinds.join(','), '--all-namespaces', '-l', 'app.kubernetes.io/part-of=culvert'),
    list<Items<'systemServices'>>('services', '-n', 'kube-system'),
  ]);
  const hasNamespace = 'items' in namespaces && namespaces.items.some((it) => it.metadata.name === planned.namespace);
  const [cilium, felix, calico, rights, trial] = await Promise.all([
    settingsOfCilium(kubectl, daemonSets),
    found(kubectl, served, ['felixconfigurations.crd.projectcalico.org', 'default']),
    found(kubectl, served, ['installations.operator.tigera.io', 'default']),
    rightsOf(kubectl, planned),
    tryPod(kubectl, planned, hasNamespace ? planned.namespace : 'default'),
  ]);
  const network = (calico?.spec as { readonly calicoNetwork?: { readonly linuxDataplane?: string } } | undefined)
    ?.calicoNetwork;
  return {
    planned,
    serverVersion: version.serverVersion?.gitVersion ?? null,
    served,
    nodes,
    namespaces,
    daemonSets,
    cilium,
    felix: felix?.spec ?? null,
    calicoDataplane: network?.linuxDataplane ?? null,
    storageClasses,
    networkPolicies,
    clusterPolicies:
      'problem' in policies
        ? policies
        : { items: policies.items.map(({ kind, metadata: { name } }) => `${kind} ${name}`) },
    runtimeClasses,
    installed,
    systemServices: services,
    rights,
    trial,
  };
}

type Items<Name extends keyof ClusterFacts> = ClusterFacts[Name] extends Listed<infer T> ? T : never;

async function listed<T>(kubectl: Kubectl, args: readonly string[]): Promise<Listed<T>> {
  const { code, out, err } = await kubectl.run(['get', ...args, '-o', 'json', timeout]);
  if (code !== 0) return { problem: problemOf(err, code) };
  return JSON.parse(out) as { readonly items: readonly T[] };
}

type Found = { readonly spec?: Readonly<Record<string, unknown>>; readonly data?: Readonly<Record<string, string>> };

/** One object; null: it is not there, or cannot be read. */
async function found(kubectl: Kubectl, served: ReadonlySet<string>, which: readonly string[]): Promise<Found | null> {
  if (!served.has(which[0] ?? '')) return null;
  return await read(kubectl, which);
}

async function read(kubectl: Kubectl, which: readonly string[]): Promise<Found | null> {
  const { code, out } = await kubectl.run(['get', ...which, '-o', 'json', '--ignore-not-found', timeout]);
  return code !== 0 || out === '' ? null : (JSON.parse(out) as Found);
}

/** They are in the namespace of its program. */
async function settingsOfCilium(
  kubectl: Kubectl,
  daemonSets: ClusterFacts['daemonSets'],
): Promise<ClusterFacts['cilium']> {
  const programs = 'items' in daemonSets ? daemonSets.items : [];
  const program = programs.find(({ metadata }) => metadata.name === 'cilium' || metadata.name === 'anetd');
  if (program === undefined) return null;
  const where = program.metadata.namespace ?? 'kube-system';
  return (await read(kubectl, ['configmap', 'cilium-config', '-n', where]))?.data ?? null;
}

/** Who may escalate and bind roles need not have what they give. */
async function rightsOf(kubectl: Kubectl, { namespace, makes, gives }: PlannedInstallation): Promise<Listed<Right>> {
  const freely: readonly Access[] = ['escalate', 'bind'].flatMap((verb) => [
    { verb, group: rbac, resource: 'clusterroles' },
    { verb, group: rbac, resource: 'roles', namespace },
  ]);
  const asked = distinct([...freely, ...makes, ...gives]);
  const input = asked.map((access) => JSON.stringify(reviewOf(access))).join('\n---\n');
  const answer = ['create', '-f', '-', '-o', 'jsonpath={.status.allowed}{"\\n"}', timeout];
  const { code, out, err } = await kubectl.run(answer, input);
  const lines = out.split('\n');
  if (code !== 0) return { problem: problemOf(err, code) };
  if (lines.length !== asked.length) return { problem: `it gave ${lines.length} answers to ${asked.length} questions` };
  const given = new Map(asked.map((access, at) => [accessText(access), lines[at] === 'true']));
  const isGiven = (access: Access): boolean => given.get(accessText(access)) === true;
  const needed = freely.every(isGiven) ? makes : [...makes, ...gives];
  return { items: distinct(needed).map((access) => ({ what: accessText(access), isGiven: isGiven(access) })) };
}

function distinct(accesses: readonly Access[]): readonly Access[] {
  return [...new Map(accesses.map((access) => [accessText(access), access])).values()];
}

function reviewOf({ resource, ...rest }: Access): object {
  const [name = '', subresource] = resource.split('/');
  const resourceAttributes = { ...rest, resource: name, ...(subresource === undefined ? {} : { subresource }) };
  return { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } };
}

/** With an account that every namespace has: that of the agents is not there yet. */
async function tryPod(kubectl: Kubectl, planned: PlannedInstallation, namespace: string): Promise<Trial> {
  if (planned.agentPod === null) return { namespace, refusal: null };
  const spec = { ...planned.agentPod, serviceAccountName: 'default' };
  const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'culvert-check', namespace }, spec };
  const asked = ['create', '--dry-run=server', '-f', '-', '-o', 'name', timeout];
  const { code, err } = await kubectl.run(asked, JSON.stringify(pod));
  return { namespace, refusal: code === 0 ? null : problemOf(err, code) };
}

const maxProblem = 400;

/** What kubectl says, as one line. Warnings of the server come first there. */
function problemOf(err: string, code: number): string {
  const lines = err.split('\n').filter((line) => line !== '' && !line.startsWith('Warning: '));
  const text = lines
    .join(' ')
    .replace(/^Error from server \(\w+\): /, '')
    .replace(/^error when creating "STDIN": /, '');
  return text === '' ? `kubectl ended with ${code}` : text.slice(0, maxProblem);
}
