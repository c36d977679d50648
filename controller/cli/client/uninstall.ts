import { setTimeout as delay } from 'node:timers/promises';
import {
  cleanupAnnotation,
  cleanupObjects,
  cleanupOptionsOf,
  cleanupRecordOf,
  recordedCleanup,
  usualPlace,
  type CleanupOptions,
} from '../../install/cleanup-objects.js';
import { agentName, cleanupName, controllerName } from '../../install/install-options.js';
import { CliError } from '../exit-codes.js';
import { problemOf, type ClusterObject, type Kubectl } from './kubectl.js';

const meshLabel = 'culvert.dev/mesh';
const ours = ['-l', 'app.kubernetes.io/part-of=culvert'] as const;
/** Of an installation, in its namespace. What the cluster may not serve is left out where it does not. */
const namespacedKinds = [
  'deployments.apps',
  'daemonsets.apps',
  'services',
  'configmaps',
  'persistentvolumeclaims',
  'serviceaccounts',
  'roles.rbac.authorization.k8s.io',
  'rolebindings.rbac.authorization.k8s.io',
  'poddisruptionbudgets.policy',
  'networkpolicies.networking.k8s.io',
  'resourcequotas',
  'leases.coordination.k8s.io',
  'endpointslices.discovery.k8s.io',
] as const;
const optionalKinds = ['podmonitors.monitoring.coreos.com', 'prometheusrules.monitoring.coreos.com'] as const;
const webhookKind = 'validatingwebhookconfigurations.admissionregistration.k8s.io';
const clusterKinds = [
  webhookKind,
  'clusterrolebindings.rbac.authorization.k8s.io',
  'clusterroles.rbac.authorization.k8s.io',
] as const;
/** What users make for Culvert themselves may have no label of it, but names its Service or its accounts. */
const referringKinds = [
  webhookKind,
  'clusterrolebindings.rbac.authorization.k8s.io',
  'rolebindings.rbac.authorization.k8s.io',
] as const;
const lookMs = 1000;

export type UninstallOptions = {
  readonly kubectl: Kubectl;
  readonly namespace: string;
  /** Where no DaemonSet says it: the image for cleaning nodes; null: not said. */
  readonly image: string | null;
  /** Those of `image`. */
  readonly imagePullSecrets: CleanupOptions['imagePullSecrets'];
  readonly cni: CleanupOptions['cni'];
  /** Of each step. */
  readonly timeoutMs: number;
  readonly done: (line: string) => void;
  readonly nowMs: () => number;
};

/**
 * Takes Culvert out of a cluster: the webhook, so that no write waits for a controller that goes; pods out of the mesh, agents
 * off their nodes, rules, CNI plugin and state off the nodes, all objects, in this order; then looks for what is left. It can
 * be repeated at any point, also after objects were deleted in another order. Errors: `KUBECTL`, `UNINSTALL_INCOMPLETE`.
 */
export async function uninstall(o: UninstallOptions): Promise<void> {
  const cleanup = await howToClean(o);
  await removeWebhook(o);
  await unenrol(o);
  await record(o, cleanup);
  await removeAgents(o);
  await cleanNodes(o, cleanup);
  const keptState = await stateOnNode(o);
  await removeObjects(o);
  if (keptState !== null) o.done(`the controller's state, with the CA, stays in ${keptState}: remove it there`);
  await proveNothingLeft(o);
}

/** As the agents say; where they are gone, as the run before has recorded, and then as the user says. */
async function howToClean({
  kubectl,
  namespace,
  image,
  imagePullSecrets,
  cni,
}: UninstallOptions): Promise<CleanupOptions> {
  const agents = await kubectl.find(['-n', namespace, 'daemonset', agentName]);
  const said = agents === null ? null : cleanupOptionsOf(agents, cni);
  if (said !== null) return said;
  const own = await kubectl.find(['namespace', namespace]);
  const recorded = recordedCleanup(namespace, own?.metadata.annotations?.[cleanupAnnotation]);
  const secrets = imagePullSecrets.length === 0 ? recorded?.imagePullSecrets : imagePullSecrets;
  if (recorded !== null) {
    return { ...recorded, image: image ?? recorded.image, imagePullSecrets: secrets ?? recorded.imagePullSecrets };
  }
  if (image !== null) return { namespace, image, imagePullSecrets, cni, ...usualPlace };
  throw new CliError({
    exit: 'usage',
    code: 'USAGE',
    message: `the cluster has no DaemonSet ${agentName} in ${namespace} that says which image cleans its nodes`,
    hint: 'name the image of Culvert with --image, or the namespace with --namespace',
  });
}

/** The DaemonSet of the agents goes before the nodes are clean, so the namespace keeps what it said. */
async function record({ kubectl, namespace }: UninstallOptions, cleanup: CleanupOptions): Promise<void> {
  if ((await kubectl.find(['namespace', namespace])) === null) return;
  const text = `${cleanupAnnotation}=${cleanupRecordOf(cleanup)}`;
  await kubectl.succeed(['annotate', '--overwrite', 'namespace', namespace, text]);
}

/** First: with the policy Fail, the API server would take no rule any more once the controller has gone. */
async function removeWebhook(o: UninstallOptions): Promise<void> {
  const removed = await o.kubectl.succeed(['delete', webhookKind, ...ours, timeoutOf(o)]);
  if (/ deleted\b/.test(removed)) o.done('the API server asks the controller no more about rules');
}

async function unenrol(o: UninstallOptions): Promise<void> {
  const { kubectl } = o;
  const selected = ['-l', `${meshLabel}=enabled`];
  const namespaces = await kubectl.items(['namespaces', ...selected]);
  if (namespaces.length > 0) await kubectl.succeed(['label', 'namespaces', ...selected, `${meshLabel}-`]);
  const pods = await kubectl.items(['pods', '--all-namespaces', ...selected]);
  if (pods.length > 0) await kubectl.succeed(['label', 'pods', '--all-namespaces', ...selected, `${meshLabel}-`]);
  const names = [...namespaces, ...pods].map(
    ({ kind, metadata: { namespace, name } }) =>
      `${kind.toLowerCase()} ${namespace === undefined ? '' : `${namespace}/`}${name}`,
  );
  o.done(
    names.length === 0 ? 'no namespace and no pod has the label of the mesh' : `label taken from ${names.join(', ')}`,
  );
  const deadline = o.nowMs() + o.timeoutMs;
  for (;;) {
    const enrolled = await enrolledPods(o);
    if (enrolled === null) return o.done('the controller does not answer: the nodes are cleaned all the same');
    if (enrolled === 0) return o.done('no pod is in the mesh');
    if (o.nowMs() > deadline)
      return o.done(`${enrolled} pods are still in the mesh: their nodes are cleaned all the same`);
    await delay(lookMs);
  }
}

/** How many pods the controller has in the mesh; null: it does not say. */
async function enrolledPods({ kubectl, namespace }: UninstallOptions): Promise<number | null> {
  const pod = ['exec', `deployment/${controllerName}`, '-c', 'controller', '--request-timeout=20s'];
  const { code, out } = await kubectl.run(['-n', namespace, ...pod, '--', 'culvert', 'status', '-o', 'json']);
  if (code !== 0) return null;
  const { kubernetes } = JSON.parse(out) as { readonly kubernetes?: { readonly enrolled: number } | null };
  return kubernetes?.enrolled ?? null;
}

async function removeAgents(o: UninstallOptions): Promise<void> {
  const which = ['-n', o.namespace, 'delete', 'daemonset', agentName, '--ignore-not-found', '--cascade=foreground'];
  await o.kubectl.succeed([...which, timeoutOf(o)]);
  o.done('no agent runs');
}

async function cleanNodes(o: UninstallOptions, cleanup: CleanupOptions): Promise<void> {
  const { kubectl, namespace } = o;
  const own = await kubectl.find(['namespace', namespace]);
  if (own?.metadata.deletionTimestamp !== undefined) {
    await kubectl.succeed(['wait', '--for=delete', `namespace/${namespace}`, timeoutOf(o)]);
  }
  if (own === null || own.metadata.deletionTimestamp !== undefined)
    await kubectl.succeed(['create', '-f', '-'], ownNamespace(cleanup));
  const list = { apiVersion: 'v1', kind: 'List', items: cleanupObjects(cleanup) };
  await kubectl.succeed(['apply', '-f', '-'], JSON.stringify(list));
  const result = await kubectl.run(['-n', namespace, 'rollout', 'status', `daemonset/${cleanupName}`, timeoutOf(o)]);
  if (result.code !== 0) throw await notClean(o, problemOf(result));
  const nodes = await kubectl.items(['-n', namespace, 'pods', '-l', `app.kubernetes.io/name=${cleanupName}`]);
  await kubectl.succeed(['-n', namespace, 'delete', 'daemonset', cleanupName, '--cascade=foreground', timeoutOf(o)]);
  const { configDirectory, binDirectory } = cleanup.cni;
  const where = `the CNI plugin in ${configDirectory} and ${binDirectory}`;
  o.done(`rules, ${where}, and state are off ${nodes.length} ${nodes.length === 1 ? 'node' : 'nodes'}`);
}

function ownNamespace(cleanup: CleanupOptions): string {
  const labels = {
    'app.kubernetes.io/part-of': 'culvert',
    'pod-security.kubernetes.io/enforce': 'privileged',
    [meshLabel]: 'disabled',
  };
  const annotations = { [cleanupAnnotation]: cleanupRecordOf(cleanup) };
  const metadata = { name: cleanup.namespace, labels, annotations };
  return JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata });
}

/** Which nodes are not clean, and what their pods say. */
async function notClean({ kubectl, namespace }: UninstallOptions, problem: string): Promise<CliError> {
  const pods = (await kubectl.items([
    '-n',
    namespace,
    'pods',
    '-l',
    `app.kubernetes.io/name=${cleanupName}`,
  ])) as readonly (ClusterObject & {
    readonly spec: { readonly nodeName?: string };
    readonly status: { readonly phase?: string };
  })[];
  const lines: string[] = [];
  for (const { metadata, spec, status } of pods.filter((pod) => pod.status.phase !== 'Running')) {
    const { out } = await kubectl.run(['-n', namespace, 'logs', metadata.name, '-c', 'remove', '--tail=3']);
    lines.push(`${spec.nodeName ?? metadata.name}: ${out === '' ? `its pod is ${status.phase ?? 'unknown'}` : out}`);
  }
  return new CliError({
    exit: 'failed',
    code: 'UNINSTALL_INCOMPLETE',
    message: `not every node is clean: ${lines.length === 0 ? problem : lines.join('; ')}`,
    hint: 'correct that and run the command again; for a node that is away for good, delete it from the cluster first',
  });
}

/** Where a controller keeps its state that is in no object of the cluster; null: nowhere. */
async function stateOnNode({ kubectl, namespace }: UninstallOptions): Promise<string | null> {
  const found = (await kubectl.find(['-n', namespace, 'deployment', controllerName])) as {
    readonly spec?: { readonly template?: { readonly spec?: ControllerPod } };
  } | null;
  const { volumes = [], nodeSelector = {} } = found?.spec?.template?.spec ?? {};
  const directory = volumes.find(({ name }) => name === 'state')?.hostPath?.path;
  if (directory === undefined) return null;
  const labels = Object.entries(nodeSelector).map(([name, value]) => `${name}=${value}`);
  return `${directory} of its node${labels.length === 0 ? '' : ` (${labels.join(', ')})`}`;
}

type ControllerPod = {
  readonly nodeSelector?: Readonly<Record<string, string>>;
  readonly volumes?: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[];
};

async function removeObjects(o: UninstallOptions): Promise<void> {
  const { kubectl, namespace } = o;
  await kubectl.succeed(['delete', clusterKinds.join(','), ...ours, timeoutOf(o)]);
  const own = await kubectl.find(['namespace', namespace]);
  if (own?.metadata.labels?.['app.kubernetes.io/part-of'] === 'culvert') {
    await kubectl.succeed(['delete', 'namespace', namespace, timeoutOf(o)]);
    return o.done(`namespace ${namespace} and all in it is gone, and so are the roles of the controller`);
  }
  const kinds = [...namespacedKinds, ...(await served(kubectl))];
  await kubectl.succeed(['-n', namespace, 'delete', kinds.join(','), ...ours, timeoutOf(o)]);
  if (own !== null) await kubectl.succeed(['annotate', 'namespace', namespace, `${cleanupAnnotation}-`]);
  o.done(
    `the objects in ${namespace} are gone, and so are the roles of the controller; the namespace is not Culvert's`,
  );
}

/** Kinds of an operator that this cluster has. */
async function served(kubectl: Kubectl): Promise<readonly string[]> {
  const known = (await kubectl.succeed(['api-resources', '-o', 'name'])).split('\n');
  return optionalKinds.filter((kind) => known.includes(kind));
}

async function proveNothingLeft(o: UninstallOptions): Promise<void> {
  const { kubectl } = o;
  const kinds = [...namespacedKinds, ...(await served(kubectl))].join(',');
  const left = [
    ...(await kubectl.items([kinds, '--all-namespaces', ...ours])),
    ...(await kubectl.items([`namespaces,${clusterKinds.join(',')}`, ...ours])),
    ...(await kubectl.items(['namespaces', '-l', `${meshLabel}=enabled`])),
    ...(await kubectl.items(['pods', '--all-namespaces', '-l', `${meshLabel}=enabled`])),
    ...(await referring(o)),
  ];
  if (left.length === 0) return o.done('nothing of Culvert is left');
  const names = left.map(({ kind, metadata: { namespace, name, ownerReferences: [maker] = [] } }) => {
    const object = `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
    return maker === undefined ? object : `${object} (made by ${maker.kind} ${maker.name})`;
  });
  throw new CliError({
    exit: 'failed',
    code: 'UNINSTALL_INCOMPLETE',
    message: `these are still there: ${names.join(', ')}`,
    hint: 'delete what you have made for Culvert yourself, and take the label out of the template of what makes pods again; another installation may have them; then run the command again',
  });
}

type Referring = ClusterObject & {
  readonly webhooks?: readonly { readonly clientConfig?: { readonly service?: Named } }[] | null;
  readonly subjects?: readonly (Named & { readonly kind: string })[] | null;
};
type Named = { readonly namespace?: string; readonly name: string };

/** Webhooks that ask the controller, and what gives rights to its account or to that of the agents. */
async function referring({ kubectl, namespace }: UninstallOptions): Promise<readonly ClusterObject[]> {
  const all = (await kubectl.items([referringKinds.join(','), '--all-namespaces'])) as readonly Referring[];
  const isOwn = (named: Named | undefined, names: readonly string[]): boolean =>
    named?.namespace === namespace && names.includes(named.name);
  return all.filter(
    ({ metadata, webhooks, subjects }) =>
      metadata.labels?.['app.kubernetes.io/part-of'] !== 'culvert' &&
      ((webhooks ?? []).some(({ clientConfig }) => isOwn(clientConfig?.service, [controllerName])) ||
        (subjects ?? []).some(
          (each) => each.kind === 'ServiceAccount' && isOwn(each, [controllerName, agentName, cleanupName]),
        )),
  );
}

function timeoutOf({ timeoutMs }: UninstallOptions): string {
  return `--timeout=${Math.ceil(timeoutMs / 1000)}s`;
}
