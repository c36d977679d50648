import type { ClusterFacts, Listed, Metadata, Right, Trial } from '../view/preflight/cluster-facts.js';
import { accessText, type Access, type PlannedInstallation } from '../view/preflight/planned-installation.js';
import { problemOf, type Kubectl } from './kubectl.js';

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
  const version = await kubectl.json<{ readonly serverVersion?: { readonly gitVersion?: string } }>([
    'version',
    '-o',
    'json',
    timeout,
  ]);
  // It fails, and prints the others, where the server of one API does not answer.
  const kinds = await kubectl.run(['api-resources', '-o', 'name', timeout]);
  const served = new Set(kinds.out.split('\n'));
  const servedProblem = kinds.code === 0 ? null : problemOf(kinds);
  const list = <T>(...args: readonly string[]): Promise<Listed<T>> => listed<T>(kubectl, args);
  /** Nothing, of kinds that the cluster does not have. */
  const listServed = async <T>(asked: readonly string[]): Promise<Listed<T>> => {
    if (servedProblem !== null) return { problem: servedProblem };
    const known = asked.filter((kind) => served.has(kind));
    return known.length === 0 ? { items: [] } : await list<T>(known.join(','));
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
    found({ kubectl, served, servedProblem }, ['felixconfigurations.crd.projectcalico.org', 'default']),
    found({ kubectl, served, servedProblem }, ['installations.operator.tigera.io', 'default']),
    rightsOf(kubectl, planned),
    tryPod(kubectl, planned, hasNamespace ? planned.namespace : 'default'),
  ]);
  const hasCalico = hasProgram(daemonSets, ['calico-node', 'canal']);
  const network = (calico.object?.spec as { readonly calicoNetwork?: { readonly linuxDataplane?: string } } | undefined)
    ?.calicoNetwork;
  return {
    planned,
    serverVersion: version.serverVersion?.gitVersion ?? null,
    served,
    servedProblem,
    nodes,
    namespaces,
    daemonSets,
    cilium: cilium.object?.data ?? null,
    felix: felix.object?.spec ?? null,
    calicoDataplane: network?.linuxDataplane ?? null,
    unreadSettings: [
      ...(cilium.problem === null ? [] : [{ of: 'Cilium' as const, problem: cilium.problem }]),
      ...(hasCalico ? [felix, calico] : []).flatMap(({ problem }) =>
        problem === null ? [] : [{ of: 'Calico' as const, problem }],
      ),
    ],
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
  const asked = ['get', ...args, '-o', 'json', timeout];
  const answer = await kubectl.run(asked);
  if (answer.code !== 0) return { problem: problemOf(answer) };
  return kubectl.parsed<{ readonly items: readonly T[] }>(answer.out, asked);
}

type Found = { readonly spec?: Readonly<Record<string, unknown>>; readonly data?: Readonly<Record<string, string>> };
/** `object`: null where it is not there; `problem`: why that cannot be said. */
type Read = { readonly object: Found | null; readonly problem: string | null };

/** One object of a kind that the cluster may not have. */
async function found(
  { kubectl, served, servedProblem }: { kubectl: Kubectl } & Pick<ClusterFacts, 'served' | 'servedProblem'>,
  which: readonly string[],
): Promise<Read> {
  if (!served.has(which[0] ?? '')) return { object: null, problem: servedProblem };
  return await read(kubectl, which);
}

async function read(kubectl: Kubectl, which: readonly string[]): Promise<Read> {
  const asked = ['get', ...which, '-o', 'json', '--ignore-not-found', timeout];
  const answer = await kubectl.run(asked);
  if (answer.code !== 0) return { object: null, problem: problemOf(answer) };
  return { object: answer.out === '' ? null : kubectl.parsed<Found>(answer.out, asked), problem: null };
}

function hasProgram(daemonSets: ClusterFacts['daemonSets'], names: readonly string[]): boolean {
  return 'items' in daemonSets && daemonSets.items.some(({ metadata }) => names.includes(metadata.name));
}

/** They are in the namespace of its program. */
async function settingsOfCilium(kubectl: Kubectl, daemonSets: ClusterFacts['daemonSets']): Promise<Read> {
  const programs = 'items' in daemonSets ? daemonSets.items : [];
  const program = programs.find(({ metadata }) => metadata.name === 'cilium' || metadata.name === 'anetd');
  if (program === undefined) return { object: null, problem: null };
  const where = program.metadata.namespace ?? 'kube-system';
  const settings = await read(kubectl, ['configmap', 'cilium-config', '-n', where]);
  const isMissing = settings.object === null && settings.problem === null;
  return isMissing ? { object: null, problem: `there is no ConfigMap cilium-config in ${where}` } : settings;
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
  const result = await kubectl.run(answer, input);
  const lines = result.out.split('\n');
  if (result.code !== 0) return { problem: problemOf(result) };
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
  const answer = await kubectl.run(asked, JSON.stringify(pod));
  return { namespace, refusal: answer.code === 0 ? null : problemOf(answer) };
}
