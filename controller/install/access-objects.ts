import { customGroup, customKind, customKindNames, definitionName } from '../resources/custom/custom-kinds.js';
import {
  agentName,
  controllerName,
  labelsOf,
  rootsConfigMap,
  type InstallOptions,
  type KubernetesObject,
} from './install-options.js';

const customPlurals = customKindNames.map((kind) => customKind(kind).plural);
const rbac = 'rbac.authorization.k8s.io';

/** Who may do what: each rule has its reason as an annotation of its role. Agents may nothing at the API. */
export function accessObjects({ namespace }: InstallOptions): readonly KubernetesObject[] {
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
            'list and watch: pods and services are workloads and services of the mesh, a label of a namespace brings its pods in, nodes have zones, endpointslices have the endpoints that no selector finds, and objects of culvert.dev are rules; their status says whether they are in force; customresourcedefinitions: while one is deleted, its rules stay; tokenreviews: agents join with the tokens of their service account',
        },
      },
      rules: [
        { apiGroups: [''], resources: ['pods', 'services', 'namespaces', 'nodes'], verbs: ['list', 'watch'] },
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
            'configmaps: the roots of the mesh are kept where agents find them before they join; daemonsets: agents whose DaemonSet is deleted take their rules out',
        },
      },
      rules: [
        { apiGroups: [''], resources: ['configmaps'], resourceNames: [rootsConfigMap], verbs: ['get', 'patch'] },
        { apiGroups: ['apps'], resources: ['daemonsets'], verbs: ['list', 'watch'] },
      ],
    },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'RoleBinding',
      metadata: { name: controllerName, namespace, labels },
      roleRef: { apiGroup: rbac, kind: 'Role', name: controllerName },
      subjects,
    },
  ];
}
