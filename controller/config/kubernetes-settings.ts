import { defineSettings } from '../../shared/config/settings-table.js';

/** Where a controller that knows the pods of a cluster finds its API, and how it proves itself there. */
export const kubernetesSettings = defineSettings({
  kubernetesApi: {
    kind: 'string',
    flag: '--kubernetes-api',
    env: 'CULVERT_CONTROLLER_KUBERNETES_API',
    key: 'kubernetesApi',
    default: null,
    help: 'HTTPS address of a Kubernetes API, whose pods and services are then workloads and services of the mesh, and whose custom resources are rules; https://kubernetes.default.svc from a pod. The default is none.',
    example: 'https://kubernetes.default.svc',
  },
  kubernetesCaFile: {
    kind: 'path',
    flag: '--kubernetes-ca-file',
    env: 'CULVERT_CONTROLLER_KUBERNETES_CA_FILE',
    key: 'kubernetesCaFile',
    default: '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt',
    help: 'PEM of the CA of that API. Read again for each connection.',
    example: '/etc/culvert/kubernetes-ca.pem',
  },
  kubernetesTokenFile: {
    kind: 'path',
    flag: '--kubernetes-token-file',
    env: 'CULVERT_CONTROLLER_KUBERNETES_TOKEN_FILE',
    key: 'kubernetesTokenFile',
    default: '/var/run/secrets/kubernetes.io/serviceaccount/token',
    help: 'File with the token of a service account that may list and watch pods, services, namespaces and custom resources of Culvert. Read again for each request.',
    example: '/etc/culvert/kubernetes-token',
  },
  kubernetesNamespace: {
    kind: 'string',
    flag: '--kubernetes-namespace',
    env: 'CULVERT_CONTROLLER_KUBERNETES_NAMESPACE',
    key: 'kubernetesNamespace',
    default: 'culvert-system',
    help: 'Namespace of the controller and of the agents, whose pods stay outside the mesh.',
    example: 'culvert-system',
  },
  kubernetesWebhook: {
    kind: 'string',
    flag: '--kubernetes-webhook',
    env: 'CULVERT_CONTROLLER_KUBERNETES_WEBHOOK',
    key: 'kubernetesWebhook',
    default: null,
    help: 'Name of a ValidatingWebhookConfiguration by which the API server asks this controller about rules before it takes them; the controller writes the address and the CA into it. The default is none: what is wrong with an object is in its status.',
    example: 'culvert',
  },
  kubernetesPolicies: {
    kind: 'list',
    flag: '--kubernetes-policies',
    env: 'CULVERT_CONTROLLER_KUBERNETES_POLICIES',
    key: 'kubernetesPolicies',
    default: null,
    help: 'Kinds of Kubernetes and Istio whose objects in the cluster are rules too, and are never written: NetworkPolicy, ClusterNetworkPolicy, AuthorizationPolicy, PeerAuthentication, ServiceEntry, and Namespace for the labels that they select by. The default is none.',
    example: 'NetworkPolicy,Namespace',
  },
});
