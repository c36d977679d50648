import type { ResourceId } from '../kinds/resource-key.js';
import type { ResourceKind } from '../kinds/resource.js';

/** A column of `kubectl get`. Those of priority 1 are shown by `-o wide` only. */
export type PrinterColumn = {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  readonly description: string;
  readonly priority?: 1;
};

type CustomKind = {
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly columns: readonly PrinterColumn[];
};

export const customGroup = 'culvert.dev';

/**
 * The kinds that rules in a cluster have as custom resources. Namespace is not among them: a cluster has its own, and their
 * labels are those of its namespaces. Short names that Istio has for its kinds begin with `cv`.
 */
const customKinds = {
  Mesh: {
    plural: 'meshes',
    shortNames: ['mesh'],
    columns: [
      text('Default', '.spec.defaultAction', 'What happens to connections that no rule decides.'),
      text('Outbound', '.spec.outbound', 'The same for destinations outside.'),
      text('mTLS', '.spec.mtls', 'Whether plaintext from outside the mesh is refused.'),
    ],
  },
  ServiceEntry: {
    plural: 'serviceentries',
    shortNames: ['cvse'],
    columns: [
      text('Hosts', '.spec.hosts', 'Names of the addresses.'),
      text('Addresses', '.spec.addresses', 'Addresses outside the mesh.'),
    ],
  },
  DestinationRule: {
    plural: 'destinationrules',
    shortNames: ['cvdr'],
    columns: [
      text('Host', '.spec.host', 'The service that it is for.'),
      text('Balancing', '.spec.trafficPolicy.loadBalancer.simple', 'How its connections are shared.'),
    ],
  },
  VirtualService: {
    plural: 'virtualservices',
    shortNames: ['cvvs'],
    columns: [text('Host', '.spec.hosts', 'The service that it is for.')],
  },
  RateLimit: {
    plural: 'ratelimits',
    shortNames: ['cvrl'],
    columns: [
      text('Host', '.spec.host', 'The services that it is for.'),
      text('Per', '.spec.per', 'Which connections have one budget.'),
      text('Mode', '.spec.mode', 'Whether it is enforced.'),
    ],
  },
  Segment: { plural: 'segments', shortNames: ['seg'], columns: [] },
  SegmentationRule: {
    plural: 'segmentationrules',
    shortNames: ['sr'],
    columns: [
      text('Tier', '.spec.tier', 'When the rule is asked.'),
      { name: 'Priority', type: 'integer', jsonPath: '.spec.priority', description: 'Order within the tier.' },
      text('Action', '.spec.action', 'What the rule does.'),
      text('Mode', '.spec.mode', 'Whether it is enforced.'),
    ],
  },
  AuthorizationPolicy: {
    plural: 'authorizationpolicies',
    shortNames: ['cvap'],
    columns: [text('Action', '.spec.action', 'What the policy does.')],
  },
  PeerAuthentication: {
    plural: 'peerauthentications',
    shortNames: ['cvpa'],
    columns: [text('Mode', '.spec.mtls.mode', 'Whether plaintext from outside the mesh is refused.')],
  },
} as const satisfies Partial<Record<ResourceKind, CustomKind>>;

export type CustomKindName = keyof typeof customKinds;

export const customKindNames = Object.keys(customKinds) as readonly CustomKindName[];

export function customKind(kind: CustomKindName): CustomKind {
  return customKinds[kind];
}

/** `segments.culvert.dev`. */
export function definitionName(kind: CustomKindName): string {
  return `${customKind(kind).plural}.${customGroup}`;
}

/** As kubectl takes it: `segments.culvert.dev batch`, `-n billing peerauthentications.culvert.dev strict`. */
export function formatKubectlName({ kind, namespace, name }: ResourceId): string {
  const plural = isCustomKind(kind) ? `${customKind(kind).plural}.${customGroup}` : kind.toLowerCase();
  return `${namespace === null ? '' : `-n ${namespace} `}${plural} ${name}`;
}

function isCustomKind(kind: string): kind is CustomKindName {
  return Object.hasOwn(customKinds, kind);
}

/** What every kind shows at the end. */
export const commonColumns: readonly PrinterColumn[] = [
  text('Accepted', '.status.conditions[?(@.type=="Accepted")].status', 'Whether the controller takes it.'),
  text('In force', '.status.agents', 'How many agents enforce it, of how many.'),
  {
    ...text('Reason', '.status.conditions[?(@.type=="Accepted")].message', 'What the controller says of it.'),
    priority: 1,
  },
  { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp', description: 'Time since it was made.' },
];

function text(name: string, jsonPath: string, description: string): PrinterColumn {
  return { name, type: 'string', jsonPath, description };
}
