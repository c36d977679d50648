import { customGroup, customKind, customKindNames, definitionName } from '../resources/custom/custom-kinds.js';
import { foreignDefinition, foreignKinds, groupOf, type ForeignKind } from '../resources/kinds/policies-of-others.js';
import {
  agentName,
  cleanupName,
  controllerName,
  labelsOf,
  leaseName,
  privilegedName,
  rootsConfigMap,
  webhookName,
  type InstallOptions,
  type KubernetesObject,
} from './install-options.js';
import { hasItem, isNumber, itemsWhen } from './slots.js';

const customPlurals = customKindNames.map((kind) => customKind(kind).plural);
const rbac = 'rbac.authorization.k8s.io';

/** Who may do what: each rule has its reason as an annotation of its role. Agents may nothing at the API. */
export function accessObjects({
  namespace,
  webhook,
  policies,
  controller,
  openShift,
  startupTaint,
}: InstallOptions): readonly KubernetesObject[] {
  const account = (name: string, component: 'controller' | 'agent'): KubernetesObject => ({
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name, namespace, labels: labelsOf(component) },
    automountServiceAccountToken: false,
  });
  const subjects = [{ kind: 'ServiceAccount', name: controllerName, namespace }];
  const labels = labelsOf('controller');
  return [
    account(controllerName, 'controller'),
    account(agentName, 'agent'),
    {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRole',
      metadata: {
        name: controllerName,
        labels,
        annotations: {
          'culvert.dev/why':
            'list and watch: pods and services are workloads and services of the mesh, a label of a namespace brings its pods in, nodes have zones (patch, where the installation says so: their startup taint is taken off), endpointslices have the endpoints that no selector finds, and objects of culvert.dev are rules; their status says whether they are in force; customresourcedefinitions: while one is deleted, its rules stay; tokenreviews: agents join with the tokens of their service account; events: what people must know of a pod, a service or a node is shown with it; the validatingwebhookconfiguration: the controller writes its address and the roots of the mesh into it, and puts right what others change of that; policies of others: the kinds that the installation names',
        },
      },
      rules: [
        { apiGroups: [''], resources: ['pods', 'services', 'namespaces', 'nodes'], verbs: ['list', 'watch'] },
        ...itemsWhen<object>(startupTaint, { apiGroups: [''], resources: ['nodes'], verbs: ['patch'] }),
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
        { apiGroups: [customGroup], resources: customPlurals, verbs: ['list', 'watch'] },
        { apiGroups: [customGroup], resources: customPlurals.map((plural) => `${plural}/status`), verbs: ['patch'] },
        {
          apiGroups: ['apiextensions.k8s.io'],
          resources: ['customresourcedefinitions'],
          resourceNames: customKindNames.map(definitionName),
          verbs: ['get'],
        },
        { apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] },
        { apiGroups: ['events.k8s.io'], resources: ['events'], verbs: ['create', 'patch'] },
        ...itemsWhen<object>(webhook.enabled, {
          apiGroups: ['admissionregistration.k8s.io'],
          resources: ['validatingwebhookconfigurations'],
          resourceNames: [webhookName],
          verbs: ['get', 'patch'],
        }),
        // It may read namespaces anyway.
        ...foreignKinds
          .filter(({ kind }) => kind !== 'Namespace')
          .flatMap((kind) => itemsWhen(hasItem(policies, kind.kind), ...rulesToRead(kind))),
      ],
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRoleBinding',
      metadata: { name: controllerName, labels },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: controllerName },
      subjects,
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'Role',
      metadata: {
        name: controllerName,
        namespace,
        labels,
        annotations: {
          'culvert.dev/why':
            'configmaps: the roots of the mesh are kept where agents find them before they join; daemonsets: agents whose DaemonSet is deleted take their rules out; with two controllers, the lease: one of them serves, and endpointslices: the Service leads to that one',
        },
      },
      rules: [
        { apiGroups: [''], resources: ['configmaps'], resourceNames: [rootsConfigMap], verbs: ['get', 'patch'] },
        { apiGroups: ['apps'], resources: ['daemonsets'], verbs: ['list', 'watch'] },
        ...itemsWhen<object>(
          isNumber(controller.replicas, 2),
          {
            apiGroups: ['coordination.k8s.io'],
            resources: ['leases'],
            resourceNames: [leaseName],
            verbs: ['get', 'patch'],
          },
          // What is made has no name yet. A slice leads only to Services of its own namespace.
          { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['create'] },
          {
            apiGroups: ['discovery.k8s.io'],
            resources: ['endpointslices'],
            resourceNames: ['ipv4', 'ipv6'].map((family) => `${controllerName}-active-${family}`),
            verbs: ['patch'],
          },
        ),
      ],
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'RoleBinding',
      metadata: { name: controllerName, namespace, labels },
      roleRef: { apiGroup: rbac, kind: 'Role', name: controllerName },
      subjects,
    },
    ...itemsWhen<KubernetesObject>(openShift, {
      apiVersion: `${rbac}/v1`,
      kind: 'RoleBinding',
      metadata: { name: privilegedName, namespace, labels: labelsOf('mesh') },
      // Agents and cleaning have the network and directories of the node; the controller's directory is made by root.
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: 'system:openshift:scc:privileged' },
      subjects: [controllerName, agentName, cleanupName].map((name) => ({ kind: 'ServiceAccount', name, namespace })),
    }),
  ];
}

/** What it takes to have the objects of a kind of others as rules. */
function rulesToRead(kind: ForeignKind): readonly object[] {
  const definition = foreignDefinition(kind);
  return [
    { apiGroups: [groupOf(kind)], resources: [kind.plural], verbs: ['list', 'watch'] },
    ...(definition === null
      ? []
      : [
          {
            apiGroups: ['apiextensions.k8s.io'],
            resources: ['customresourcedefinitions'],
            resourceNames: [definition],
            verbs: ['get'],
          },
        ]),
  ];
}
