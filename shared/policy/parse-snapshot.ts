import { z } from 'zod';
import { parseCidr } from '../address.js';
import { CulvertError } from '../errors.js';
import { tiers, type Snapshot } from './snapshot.js';

const names = z.array(z.string()).exactOptional();
const cidrs = z.array(z.string().refine((text) => parseCidr(text) !== undefined, 'is not a CIDR')).exactOptional();
const port = z.number().int().min(1).max(65_535);
const ports = z.array(port).exactOptional();
const labels = z.record(z.string(), z.string());

const peerMatch = z.strictObject({
  namespaces: names,
  labels: labels.exactOptional(),
  serviceAccounts: names,
  workloads: names,
  nodes: names,
  cidrs,
  exceptCidrs: cidrs,
  segment: z.string().exactOptional(),
});

const compiledRule = z.strictObject({
  name: z.string(),
  tier: z.enum(tiers),
  priority: z.number(),
  action: z.enum(['allow', 'deny', 'pass']),
  mode: z.enum(['enforce', 'audit']),
  from: z.array(peerMatch),
  to: z.array(peerMatch),
  ports: z.array(z.tuple([port, port])),
});

const authorizationSource = z.strictObject({
  principals: names,
  notPrincipals: names,
  namespaces: names,
  notNamespaces: names,
  ipBlocks: cidrs,
  notIpBlocks: cidrs,
});

const authorizationPolicy = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  action: z.enum(['ALLOW', 'DENY']),
  selector: labels,
  rules: z.array(
    z.strictObject({
      from: z.array(authorizationSource),
      to: z.array(z.strictObject({ ports, notPorts: ports })),
    }),
  ),
});

const snapshotSchema: z.ZodType<Snapshot> = z.strictObject({
  revision: z.number().int().nonnegative(),
  createdAt: z.string(),
  createdBy: z.string(),
  trustDomain: z.string(),
  mesh: z.strictObject({
    defaultAction: z.enum(['allow', 'audit', 'deny']),
    mtls: z.enum(['STRICT', 'PERMISSIVE']),
    rootNamespace: z.string(),
  }),
  rules: z.array(compiledRule),
  authorizationPolicies: z.array(authorizationPolicy),
});

/**
 * Reads a snapshot that came over the wire or from disk (plain data). A field that this version does not know refuses the
 * whole revision, because ignoring it could loosen a rule (DESIGN §1). Throws CulvertError `SNAPSHOT_INVALID`.
 */
export function parseSnapshot(json: unknown): Snapshot {
  const parsed = snapshotSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue === undefined ? '' : `${issue.path.map(String).join('.')}: ${issue.message}`;
  throw new CulvertError({
    code: 'SNAPSHOT_INVALID',
    message: `The rules cannot be read: ${where}.`,
    hint: 'run the same version of culvert-agent and culvert-controller',
    cause: parsed.error,
  });
}
