import { agentName, controllerName, privilegedName, type KubernetesObject } from '../../../install/install-options.js';
import type { PlacedPod } from './node-fit.js';

/** An access that the API server is asked about, as in a SelfSubjectAccessReview. */
export type Access = {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly name?: string;
  readonly namespace?: string;
};

/** What the objects of an installation need of a cluster. */
export type PlannedInstallation = {
  readonly namespace: string;
  /** Its labels are among the objects. */
  readonly makesNamespace: boolean;
  /** A quota for pods of system classes is among them. */
  readonly hasQuota: boolean;
  /** Its accounts get the rights that OpenShift asks of such pods. */
  readonly isForOpenShift: boolean;
  /** Null: the state of the controller is in no claim. `className` null: the default class. */
  readonly claim: { readonly className: string | null } | null;
  /** Null: no CNI plugin is installed. */
  readonly cni: { readonly configDirectory: string; readonly binDirectory: string } | null;
  /** Pod of the controller, without its metadata; null: there is no Deployment of it. */
  readonly controllerPod: PlacedPod | null;
  /** Labels of the pods of the controller. */
  readonly controllerLabels: Readonly<Record<string, string>>;
  /** Pod of an agent, without its metadata; null: there is no DaemonSet of agents. */
  readonly agentPod: (Readonly<Record<string, unknown>> & PlacedPod) | null;
  /** Kinds that the cluster must serve, as `deployments.apps`. */
  readonly kinds: readonly string[];
  /** To make the objects. */
  readonly makes: readonly Access[];
  /** What roles among them give: who makes a role must have that too, or may `escalate`. */
  readonly gives: readonly Access[];
  /** Kinds that are not known here: nothing is asked about them. */
  readonly unknownKinds: readonly string[];
};

/** Plural and place of the kinds of an installation. */
const kindTable: Readonly<Record<string, { readonly plural: string; readonly isNamespaced: boolean }>> = {
  Namespace: { plural: 'namespaces', isNamespaced: false },
  ServiceAccount: { plural: 'serviceaccounts', isNamespaced: true },
  ConfigMap: { plural: 'configmaps', isNamespaced: true },
  Service: { plural: 'services', isNamespaced: true },
  PersistentVolumeClaim: { plural: 'persistentvolumeclaims', isNamespaced: true },
  ResourceQuota: { plural: 'resourcequotas', isNamespaced: true },
  Deployment: { plural: 'deployments', isNamespaced: true },
  DaemonSet: { plural: 'daemonsets', isNamespaced: true },
  ClusterRole: { plural: 'clusterroles', isNamespaced: false },
  ClusterRoleBinding: { plural: 'clusterrolebindings', isNamespaced: false },
  Role: { plural: 'roles', isNamespaced: true },
  RoleBinding: { plural: 'rolebindings', isNamespaced: true },
  PodDisruptionBudget: { plural: 'poddisruptionbudgets', isNamespaced: true },
  NetworkPolicy: { plural: 'networkpolicies', isNamespaced: true },
  PodMonitor: { plural: 'podmonitors', isNamespaced: true },
  PrometheusRule: { plural: 'prometheusrules', isNamespaced: true },
  CustomResourceDefinition: { plural: 'customresourcedefinitions', isNamespaced: false },
  ValidatingWebhookConfiguration: { plural: 'validatingwebhookconfigurations', isNamespaced: false },
};

type Rule = {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
};
type PodTemplate = {
  readonly metadata?: { readonly labels?: Readonly<Record<string, string>> };
  readonly spec: Readonly<Record<string, unknown>> &
    PlacedPod & {
      readonly containers?: readonly { readonly command?: readonly string[]; readonly args?: readonly string[] }[];
    };
};

/** What `culvert install` prints, or a chart renders. Null: no agent and no controller is among the objects. */
export function plannedInstallation(objects: readonly KubernetesObject[]): PlannedInstallation | null {
  const agents = objects.find(({ kind, metadata }) => kind === 'DaemonSet' && metadata.name === agentName);
  const controller = objects.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === controllerName);
  const namespace = (agents ?? controller)?.metadata.namespace;
  if (namespace === undefined) return null;
  const agent = templateOf(agents);
  const own = templateOf(controller);
  const claim = objects.find(({ kind }) => kind === 'PersistentVolumeClaim');
  return {
    namespace,
    makesNamespace: objects.some(({ kind, metadata }) => kind === 'Namespace' && metadata.name === namespace),
    hasQuota: objects.some(({ kind }) => kind === 'ResourceQuota'),
    isForOpenShift: objects.some(({ metadata }) => metadata.name === privilegedName),
    claim: claim === undefined ? null : { className: classOf(claim) },
    cni: cniOf(agent),
    controllerPod: own?.spec ?? null,
    controllerLabels: own?.metadata?.labels ?? {},
    agentPod: agent?.spec ?? null,
    kinds: unique(objects.flatMap((object) => kindOf(object)?.name ?? [])),
    makes: objects.flatMap(accessesTo),
    gives: objects.flatMap(accessesGivenBy),
    unknownKinds: unique(objects.filter((object) => kindOf(object) === null).map(({ kind }) => kind)),
  };
}

function templateOf(object: KubernetesObject | undefined): PodTemplate | null {
  const spec = object?.['spec'] as { readonly template?: PodTemplate } | undefined;
  return spec?.template ?? null;
}

function classOf(claim: KubernetesObject): string | null {
  const { storageClassName } = claim['spec'] as { readonly storageClassName?: string };
  return storageClassName ?? null;
}

function cniOf(agent: PodTemplate | null): PlannedInstallation['cni'] {
  const words = (agent?.spec.containers ?? []).flatMap(({ command = [], args = [] }) => [...command, ...args]);
  const value = (option: string): string | null => {
    const found = words.find((word) => word.startsWith(`--${option}=`));
    return found === undefined ? null : found.slice(option.length + 3);
  };
  const [configDirectory, binDirectory] = [value('cni-config-dir'), value('cni-bin-dir')];
  return configDirectory === null || binDirectory === null ? null : { configDirectory, binDirectory };
}

function kindOf({ apiVersion, kind }: KubernetesObject) {
  const row = kindTable[kind];
  if (row === undefined) return null;
  const group = apiVersion.includes('/') ? (apiVersion.split('/')[0] ?? '') : '';
  return { ...row, group, name: group === '' ? row.plural : `${row.plural}.${group}` };
}

/** `kubectl apply` reads an object, makes it, and patches one that is there. */
function accessesTo(object: KubernetesObject): Access[] {
  const kind = kindOf(object);
  if (kind === null) return [];
  const { namespace } = object.metadata;
  const place = kind.isNamespaced && namespace !== undefined ? { namespace } : {};
  return ['get', 'create', 'patch'].map((verb) => ({ verb, group: kind.group, resource: kind.plural, ...place }));
}

function accessesGivenBy({ kind, metadata: { namespace }, ...object }: KubernetesObject): Access[] {
  if (kind !== 'ClusterRole' && kind !== 'Role') return [];
  const place = kind === 'Role' && namespace !== undefined ? { namespace } : {};
  return ((object['rules'] ?? []) as readonly Rule[]).flatMap((rule) =>
    rule.apiGroups.flatMap((group) =>
      rule.resources.flatMap((resource) =>
        rule.verbs.flatMap((verb) =>
          (rule.resourceNames ?? [null]).map((name) => ({
            verb,
            group,
            resource,
            ...place,
            ...(name === null ? {} : { name }),
          })),
        ),
      ),
    ),
  );
}

/** For people: `create daemonsets.apps in culvert-system`. */
export function accessText({ verb, group, resource, name, namespace }: Access): string {
  const kind = group === '' ? resource : `${resource}.${group}`;
  return `${verb} ${kind}${name === undefined ? '' : `/${name}`}${namespace === undefined ? '' : ` in ${namespace}`}`;
}

function unique(texts: readonly string[]): readonly string[] {
  return [...new Set(texts)];
}
