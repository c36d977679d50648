import { z } from 'zod';
import { longestWarmupMs } from '../policy/warmup.js';
import { matchFields, type MatchFieldName, type MatchValue, type ValueForm } from '../policy/match-fields.js';
import {
  authorizationConditionKeys,
  clusterPolicyKinds,
  clusterTiers,
  tiers,
  type Snapshot,
} from '../policy/snapshot.js';
import { balancings, longestDelayMs, rateLimitBudgets } from '../policy/traffic-documents.js';

const names = z.array(z.string().max(512)).readonly();
const labels = z.record(z.string(), z.string()).readonly();
const port = z.int().min(0).max(65_535);

const valueSchemas: { readonly [K in ValueForm<MatchValue<MatchFieldName>>]: z.ZodType } = {
  names,
  labels,
  flag: z.literal(true),
  text: z.string(),
};

type PeerMatchShape = { [F in MatchFieldName]: z.ZodExactOptional<z.ZodType<MatchValue<F>>> };

/** One field for each row of {@link matchFields}; the type of a row ties its form to the type of its value. */
const peerMatch = z.strictObject(
  Object.fromEntries(
    Object.entries(matchFields).map(([name, { form }]) => [name, valueSchemas[form].exactOptional()]),
  ) as PeerMatchShape,
);

const rulePeers = z.array(z.union([z.strictObject({ memberOf: z.string().min(1) }), peerMatch])).readonly();
const segment = z.strictObject({ name: z.string().min(1), members: rulePeers });

const portRange = z.tuple([port, port]).readonly();
const portRanges = z.array(portRange).readonly();
const rulePorts = z.array(z.union([portRange, z.string().min(1).max(63)])).readonly();
const instant = z.int().nullable();

const onChange = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('terminate') }),
  z.strictObject({ kind: z.literal('drain'), graceMs: z.int().min(0) }),
  z.strictObject({ kind: z.literal('keep') }),
]);

const rule = z.strictObject({
  name: z.string().min(1),
  tier: z.enum(tiers),
  priority: z.int(),
  action: z.enum(['allow', 'deny', 'pass']),
  mode: z.enum(['enforce', 'audit']),
  from: rulePeers,
  to: rulePeers,
  ports: rulePorts,
  onChange,
  rollout: z.number().min(0).max(100),
  validFromMs: instant,
  expiresAtMs: instant,
  owner: z.string().exactOptional(),
  reason: z.string().exactOptional(),
});

const authorizationPolicy = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  action: z.enum(['ALLOW', 'DENY']),
  dryRun: z.literal(true).exactOptional(),
  selector: labels,
  rules: z
    .array(
      z.strictObject({
        from: z
          .array(
            z.strictObject({
              principals: names.exactOptional(),
              notPrincipals: names.exactOptional(),
              serviceAccounts: names.exactOptional(),
              notServiceAccounts: names.exactOptional(),
              namespaces: names.exactOptional(),
              notNamespaces: names.exactOptional(),
              trustDomains: names.exactOptional(),
              notTrustDomains: names.exactOptional(),
              ipBlocks: names.exactOptional(),
              notIpBlocks: names.exactOptional(),
            }),
          )
          .readonly(),
        to: z
          .array(
            z.strictObject({
              ports: z.array(port).readonly().exactOptional(),
              notPorts: z.array(port).readonly().exactOptional(),
            }),
          )
          .readonly(),
        when: z
          .array(
            z.strictObject({
              key: z.enum(authorizationConditionKeys),
              values: names.exactOptional(),
              notValues: names.exactOptional(),
            }),
          )
          .readonly()
          .exactOptional(),
      }),
    )
    .readonly(),
});

const requirements = z
  .array(
    z.strictObject({ key: z.string(), operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']), values: names }),
  )
  .readonly();
const networkPolicyPeer = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('pods'), namespaceSelector: requirements.nullable(), podSelector: requirements }),
  z.strictObject({ kind: z.literal('block'), cidr: z.string(), except: names }),
]);
const networkPolicyRules = z
  .array(z.strictObject({ peers: z.array(networkPolicyPeer).readonly(), ports: rulePorts }))
  .readonly();
const networkPolicy = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  podSelector: requirements,
  ingress: networkPolicyRules.nullable(),
  egress: networkPolicyRules.nullable(),
});

const clusterPolicyRules = z
  .array(
    z.strictObject({
      action: z.enum(['accept', 'deny', 'pass']),
      peers: z.array(networkPolicyPeer).readonly(),
      ports: rulePorts,
    }),
  )
  .readonly();
const clusterPolicy = z.strictObject({
  kind: z.enum(clusterPolicyKinds),
  name: z.string().min(1),
  tier: z.enum(clusterTiers),
  priority: z.int(),
  subject: z.strictObject({ namespaceSelector: requirements, podSelector: requirements }),
  ingress: clusterPolicyRules,
  egress: clusterPolicyRules,
});

const mtlsMode = z.enum(['STRICT', 'PERMISSIVE']);
const peerAuthentication = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  selector: labels,
  mode: mtlsMode.nullable(),
  ports: z.record(z.string(), mtlsMode).readonly(),
});

const external = z.strictObject({
  name: z.string().min(1),
  hosts: names,
  cidrs: names,
  ports: portRanges,
  lateAcceptPorts: z.array(port).readonly().exactOptional(),
});

const positive = z.int().min(1);
const percent = z.int().min(0).max(100);
const probeSeconds = z.int().min(1).max(32_767);
const trafficPolicy = z.strictObject({
  balancing: z.enum(balancings).exactOptional(),
  warmup: z
    .strictObject({
      durationMs: z.int().min(1).max(longestWarmupMs),
      minPercent: z.number().min(0).max(100),
      aggression: z.number().min(1),
    })
    .exactOptional(),
  connections: z
    .strictObject({
      max: positive.exactOptional(),
      maxPending: positive.exactOptional(),
      connectTimeoutMs: positive.exactOptional(),
      idleTimeoutMs: z.int().min(0).exactOptional(),
      maxDurationMs: positive.exactOptional(),
      keepalive: z
        .strictObject({ idleSeconds: probeSeconds, everySeconds: probeSeconds, probes: z.int().min(1).max(127) })
        .exactOptional(),
    })
    .exactOptional(),
  retries: z.strictObject({ percent: z.number().min(0).max(100), minConcurrency: z.int().min(0) }).exactOptional(),
  outliers: z
    .strictObject({
      failures: positive,
      baseEjectionMs: positive,
      decayMs: positive,
      maxEjectionPercent: percent,
      minHealthPercent: percent,
    })
    .exactOptional(),
});
const destinationRule = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  host: z.string().min(1),
  exportTo: names.exactOptional(),
  policy: trafficPolicy,
  ports: z.record(z.string(), trafficPolicy).readonly(),
  subsets: z
    .array(
      z.strictObject({
        name: z.string().min(1),
        labels,
        policy: trafficPolicy,
        ports: z.record(z.string(), trafficPolicy).readonly(),
      }),
    )
    .readonly()
    .exactOptional(),
});

const routeMatch = z.strictObject({
  port: port.exactOptional(),
  destinationSubnets: names.exactOptional(),
  sourceLabels: labels.exactOptional(),
  sourceNamespace: z.string().min(1).exactOptional(),
});
const routeBackend = z.strictObject({
  service: z.string().min(1),
  port: port.nullable(),
  invalid: z.string().min(1).exactOptional(),
});
const weightedSubset = z.strictObject({
  subset: z.string().min(1).nullable(),
  weight: z.int().min(0),
  backend: routeBackend.exactOptional(),
});
const faultShare = { percent: z.number().min(0).max(100), expiresAtMs: z.int().exactOptional() };
const routeFaults = z.strictObject({
  delay: z.strictObject({ ...faultShare, delayMs: positive.max(longestDelayMs) }).exactOptional(),
  abort: z.strictObject(faultShare).exactOptional(),
  throttle: z.strictObject({ ...faultShare, bytesPerSecond: positive }).exactOptional(),
});
const routeMirror = z.strictObject({
  percent: z.number().min(0).max(100),
  subset: z.string().min(1).nullable(),
  service: z.string().min(1).exactOptional(),
  port: port.exactOptional(),
});
const virtualService = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  host: z.string().min(1),
  exportTo: names.exactOptional(),
  routes: z
    .array(
      z.strictObject({
        origin: z.string().min(1).exactOptional(),
        matches: z.array(routeMatch).readonly(),
        choices: z.array(weightedSubset).readonly(),
        attempts: z.int().min(0).exactOptional(),
        perTryTimeoutMs: positive.exactOptional(),
        timeoutMs: positive.exactOptional(),
        faults: routeFaults.exactOptional(),
        mirror: routeMirror.exactOptional(),
      }),
    )
    .readonly(),
});

const rateLimit = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  host: z.string().min(1),
  ports: z.array(port).readonly().exactOptional(),
  sources: z
    .array(
      z.strictObject({
        namespace: z.string().min(1).exactOptional(),
        serviceAccount: z.string().min(1).exactOptional(),
        labels: labels.exactOptional(),
      }),
    )
    .readonly()
    .exactOptional(),
  per: z.enum(rateLimitBudgets),
  rate: z.strictObject({ perSecond: z.number().positive(), burst: positive }).exactOptional(),
  max: positive.exactOptional(),
  bytesPerSecond: positive.exactOptional(),
  mode: z.enum(['enforce', 'audit']),
});

const action = z.enum(['allow', 'audit', 'deny']);
const mesh = z.strictObject({
  defaultAction: action,
  outbound: action,
  mtls: mtlsMode,
  rootNamespace: z.string().min(1),
});

/**
 * A received snapshot. The schema is strict: an unknown field may narrow a rule, so ignoring it could allow what the
 * author denied. Instead the whole revision is rejected and the last good one stays in force. What may be passed over the
 * snapshot itself says: {@link readTolerantly}.
 */
export const snapshotSchema: z.ZodType<Snapshot> = z.strictObject({
  revision: z.int().min(1),
  createdAt: z.iso.datetime({ offset: true }),
  createdBy: z.string(),
  trustDomain: z.string().min(1),
  mesh,
  segments: z.array(segment).readonly().exactOptional(),
  rules: z.array(rule).readonly(),
  authorizationPolicies: z.array(authorizationPolicy).readonly(),
  networkPolicies: z.array(networkPolicy).readonly(),
  peerAuthentications: z.array(peerAuthentication).readonly(),
  clusterPolicies: z.array(clusterPolicy).readonly().exactOptional(),
  externals: z.array(external).readonly(),
  namespaces: z.record(z.string(), labels).readonly(),
  destinationRules: z.array(destinationRule).readonly().exactOptional(),
  virtualServices: z.array(virtualService).readonly().exactOptional(),
  rateLimits: z.array(rateLimit).readonly().exactOptional(),
});

/**
 * Fields of a snapshot that agents of earlier versions may pass over, as paths without positions: `rules.owner`. A field that
 * is added and does not change what is allowed is listed here; any other refuses the revision where it is not known. Fields of
 * the snapshot, of `mesh` and of entries of lists can be listed, and none below: a peer without what narrows it matches more.
 *
 * Of documents about traffic, which never change what is allowed, fields at any depth can be listed, with `*` for a port:
 * `destinationRules.ports.*.warmup`. Those are listed without which connections go as if the field were not written, for
 * example how endpoints are shared. A field that narrows something (what a route matches, which clients a limit is for) is not
 * listed, and one within `faults` neither: a fault that is read without what bounds it would be for more connections, or
 * for longer. Faults as a whole are listed: without them connections go as well as they can. `mirror` is listed in the same way:
 * without it nothing is copied. A field that is there gets no new values: those are a field of their own.
 */
export const ignorableFields: readonly string[] = [
  'destinationRules',
  'destinationRules.subsets',
  ...['policy', 'ports.*', 'subsets.policy', 'subsets.ports.*'].flatMap((policy) => [
    `destinationRules.${policy}.connections.keepalive`,
    `destinationRules.${policy}.warmup`,
  ]),
  'virtualServices',
  'virtualServices.routes.faults',
  'virtualServices.routes.mirror',
  'rateLimits',
  'rateLimits.bytesPerSecond',
];

/** Keys on the way to one: a list and a position in it. */
const deepestIgnorable = 2;
/** Lists in which one may be deeper. */
const listsOfTraffic: readonly PropertyKey[] = ['destinationRules', 'virtualServices', 'rateLimits'];

/** A field that was passed over: `path` of the object that had it. `name`: as it is listed. */
export type PassedOver = { readonly path: readonly PropertyKey[]; readonly name: string };

/**
 * Validates a snapshot, without the fields that it does not know and that `ignorable` lists, which `onPassedOver` gets. Throws
 * ZodError.
 */
export function readTolerantly(
  value: unknown,
  ignorable: readonly string[],
  onPassedOver: (field: PassedOver) => void = () => {},
): Snapshot {
  const read = snapshotSchema.safeParse(value);
  if (read.success) return read.data;
  const unknown = read.error.issues.map((issue) =>
    issue.code === 'unrecognized_keys' && mayBePassedOver(issue.path)
      ? issue.keys.map((key) => ({ path: issue.path, key, name: nameOf([...issue.path, key]) }))
      : [],
  );
  const isIgnorable = unknown.every((keys) => keys.length > 0 && keys.every(({ name }) => ignorable.includes(name)));
  if (!isIgnorable) throw read.error;
  const copy: unknown = structuredClone(value);
  for (const { path, key } of unknown.flat()) Reflect.deleteProperty(at(copy, path), key);
  const snapshot = snapshotSchema.parse(copy);
  for (const { path, name } of unknown.flat()) onPassedOver({ path, name });
  return snapshot;
}

function mayBePassedOver([list, ...rest]: readonly PropertyKey[]): boolean {
  return rest.length < deepestIgnorable || (list !== undefined && listsOfTraffic.includes(list));
}

/** Positions in lists are left out, and ports are `*`. */
function nameOf(path: readonly PropertyKey[]): string {
  const isTraffic = path[0] !== undefined && listsOfTraffic.includes(path[0]);
  return path
    .map((part, at) => (isTraffic && path[at - 1] === 'ports' ? '*' : part))
    .filter((part) => typeof part === 'string')
    .join('.');
}

function at(value: unknown, path: readonly PropertyKey[]): object {
  return path.reduce<unknown>((part, key) => (part as Record<PropertyKey, unknown>)[key], value) as object;
}
