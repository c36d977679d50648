import { isResourceKind, kindInfo } from '../kinds/resource.js';

/** A project whose documents people have at hand when they write rules, and what to write in their place. */
type Project = {
  readonly name: string;
  /** API groups, also as the end of one (`.istio.io`). The empty group is the core of Kubernetes. */
  readonly groups: readonly string[];
  /** Advice by kind. Kinds are also recognised without an apiVersion, unless their name is one of ours. */
  readonly kinds: Readonly<Record<string, string>>;
  /** Advice for all other kinds of the project; null: they may be misspelt kinds that are taken. */
  readonly otherwise: string | null;
};

const asRules = 'its rules can be written as NetworkPolicies and SegmentationRules';
const asMeshRules = 'rules for the whole mesh can be written as SegmentationRules of the tier platform or baseline';
const asAuthorization = 'its rules can be written as AuthorizationPolicies or SegmentationRules';
const asWorkload = 'register each of its instances as a Workload with its addresses, labels and account';
const addressesInRules = 'write its addresses into a Segment with cidr, or into a ServiceEntry';
const meshSettings = 'settings of this mesh are in a Mesh with apiVersion culvert.dev/v1';
const httpOnly = 'it is about HTTP, and Culvert carries TCP without reading it';
const routing = 'write its routes as a VirtualService with tcp, or as a TCPRoute';
const tcpOnly = 'it is about UDP, and Culvert carries TCP';
const noGateway = 'Culvert has no gateways, and routes connections of the members of the mesh';

const projects: readonly Project[] = [
  {
    name: 'Cilium',
    groups: ['cilium.io'],
    kinds: {
      CiliumNetworkPolicy: asRules,
      CiliumClusterwideNetworkPolicy: asMeshRules,
      CiliumCIDRGroup: addressesInRules,
    },
    otherwise: asRules,
  },
  {
    name: 'Calico',
    groups: ['projectcalico.org', 'crd.projectcalico.org'],
    kinds: {
      NetworkPolicy: `its fields are not those of Kubernetes; ${asRules}`,
      GlobalNetworkPolicy: asMeshRules,
      StagedNetworkPolicy: 'its rules can be written as SegmentationRules with mode audit',
      StagedGlobalNetworkPolicy: 'its rules can be written as SegmentationRules with mode audit',
      GlobalNetworkSet: addressesInRules,
      NetworkSet: addressesInRules,
      HostEndpoint: asWorkload,
    },
    otherwise: asRules,
  },
  {
    name: 'Antrea',
    groups: ['crd.antrea.io'],
    kinds: {
      NetworkPolicy: `its fields are not those of Kubernetes; ${asRules}`,
      ClusterNetworkPolicy: `its fields are not those of Kubernetes; ${asMeshRules}`,
    },
    otherwise: `${asRules}; a tier is the field tier of a SegmentationRule`,
  },
  {
    name: 'Linkerd',
    groups: ['policy.linkerd.io', 'linkerd.io'],
    kinds: {
      AuthorizationPolicy: `its fields are not those of Istio; ${asAuthorization}`,
      ServerAuthorization: asAuthorization,
      MeshTLSAuthentication: 'name its identities in the principals of an AuthorizationPolicy',
      NetworkAuthentication: 'write its networks into ipBlocks of an AuthorizationPolicy, or into cidr of a rule',
      ServiceProfile: httpOnly,
    },
    otherwise: asAuthorization,
  },
  {
    name: 'Consul',
    groups: ['.consul.hashicorp.com', 'consul.hashicorp.com'],
    kinds: {
      ServiceIntentions: 'each intention can be written as a SegmentationRule with from, to and action',
      Mesh: meshSettings,
    },
    otherwise: 'who may connect to whom can be written as SegmentationRules',
  },
  {
    name: 'Kuma',
    groups: ['kuma.io'],
    kinds: {
      MeshTrafficPermission: 'each permission can be written as a SegmentationRule with from, to and action',
      TrafficPermission: 'each permission can be written as a SegmentationRule with from, to and action',
      Mesh: meshSettings,
    },
    otherwise: 'who may connect to whom can be written as SegmentationRules',
  },
  {
    name: 'Kyverno',
    groups: ['kyverno.io'],
    kinds: {},
    otherwise: 'it judges documents, not connections; who may connect to whom can be written as SegmentationRules',
  },
  {
    name: 'Service Mesh Interface',
    groups: ['.smi-spec.io'],
    kinds: { TrafficTarget: asAuthorization, HTTPRouteGroup: httpOnly, TrafficSplit: routing },
    otherwise: asAuthorization,
  },
  {
    name: 'Istio',
    groups: ['.istio.io'],
    kinds: {
      RequestAuthentication: 'its JWTs are in HTTP requests, and Culvert carries TCP without reading it',
      Sidecar: 'which destinations a workload may reach can be written as SegmentationRules with from and to',
      WorkloadEntry: 'it can be written as a Workload with its addresses and labels',
      WorkloadGroup: asWorkload,
      EnvoyFilter: 'it configures Envoy, and there is none',
      WasmPlugin: 'it extends Envoy, and there is none',
      ProxyConfig: 'it configures Envoy, and there is none; settings of agents are in their configuration',
      Telemetry: 'metrics and logs are settings of the agents',
      ServiceRole: asAuthorization,
      ServiceRoleBinding: asAuthorization,
      ClusterRbacConfig: 'what happens without a rule is defaultAction of the Mesh',
      MeshPolicy: 'it can be written as a PeerAuthentication in the root namespace, or as mtls of the Mesh',
    },
    otherwise: null,
  },
  {
    name: 'the Gateway API',
    groups: ['gateway.networking.k8s.io', 'gateway.networking.x-k8s.io'],
    kinds: { HTTPRoute: httpOnly, GRPCRoute: httpOnly, TLSRoute: routing, UDPRoute: tcpOnly, GatewayClass: noGateway },
    otherwise: noGateway,
  },
  {
    name: 'Kubernetes',
    groups: ['', 'apps', 'batch', 'extensions', 'networking.k8s.io', 'discovery.k8s.io', 'rbac.authorization.k8s.io'],
    kinds: {
      Service: 'write it with apiVersion culvert.dev/v1: vips, ports and the selector of its workloads',
      Pod: asWorkload,
      Deployment: asWorkload,
      StatefulSet: asWorkload,
      DaemonSet: asWorkload,
      ReplicaSet: asWorkload,
      Job: asWorkload,
      CronJob: asWorkload,
      ServiceAccount: 'an account needs no document: a Workload names it as serviceAccount',
      Endpoints: 'the endpoints of a Service are the Workloads that its selector selects',
      EndpointSlice: 'the endpoints of a Service are the Workloads that its selector selects',
      Ingress: httpOnly,
      Secret: 'it says nothing about connections: leave it out',
      ConfigMap: 'it says nothing about connections: leave it out',
      Role: 'it is about the API of Kubernetes, not about connections: leave it out',
      RoleBinding: 'it is about the API of Kubernetes, not about connections: leave it out',
      ClusterRole: 'it is about the API of Kubernetes, not about connections: leave it out',
      ClusterRoleBinding: 'it is about the API of Kubernetes, not about connections: leave it out',
    },
    otherwise: null,
  },
];

/**
 * What to say about a document of another project, so that its author learns what to write in its place and gets no
 * advice to change its kind into a similar name. Null: the document claims to be one of ours.
 */
export function foreignKind(written: {
  readonly apiVersion: unknown;
  readonly kind: string;
}): { readonly message: string; readonly hint: string } | null {
  const { kind } = written;
  const apiVersion = typeof written.apiVersion === 'string' ? written.apiVersion : null;
  if (isResourceKind(kind)) {
    if (apiVersion === null || kindInfo(kind).apiVersions.includes(apiVersion)) return null;
  }
  const project = projectOf(apiVersion, kind);
  if (project === undefined) return null;
  const advice = Object.hasOwn(project.kinds, kind) ? project.kinds[kind] : undefined;
  // A kind with a name of ours and an API version that is merely wrong.
  if (advice === undefined && isResourceKind(kind)) return null;
  const hint = advice ?? project.otherwise;
  return hint === null ? null : { message: `Culvert does not take ${kind} of ${project.name}`, hint };
}

function projectOf(apiVersion: string | null, kind: string): Project | undefined {
  if (apiVersion === null) return projects.find(({ kinds }) => Object.hasOwn(kinds, kind));
  const group = groupOf(apiVersion);
  const isOf = (own: string): boolean => (own.startsWith('.') ? group.endsWith(own) : group === own);
  const isNamed = ({ groups, kinds, otherwise }: Project): boolean =>
    groups.some(isOf) && (otherwise !== null || Object.hasOwn(kinds, kind));
  return projects.find(isNamed);
}

/** `networking.k8s.io` of `networking.k8s.io/v1`; empty for the core of Kubernetes. */
function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}
