import { z } from 'zod';
import { tiers, type Snapshot } from '../policy/snapshot.js';

const names = z.array(z.string().max(512)).readonly();
const labels = z.record(z.string(), z.string()).readonly();
const port = z.int().min(0).max(65_535);

const peerMatch = z.strictObject({
  namespaces: names.exactOptional(),
  labels: labels.exactOptional(),
  serviceAccounts: names.exactOptional(),
  workloads: names.exactOptional(),
  nodes: names.exactOptional(),
  cidrs: names.exactOptional(),
  exceptCidrs: names.exactOptional(),
  segment: z.string().exactOptional(),
});

const rule = z.strictObject({
  name: z.string().min(1),
  tier: z.enum(tiers),
  priority: z.int(),
  action: z.enum(['allow', 'deny', 'pass']),
  mode: z.enum(['enforce', 'audit']),
  from: z.array(peerMatch).readonly(),
  to: z.array(peerMatch).readonly(),
  ports: z.array(z.tuple([port, port]).readonly()).readonly(),
});

const authorizationPolicy = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  action: z.enum(['ALLOW', 'DENY']),
  selector: labels,
  rules: z
    .array(
      z.strictObject({
        from: z
          .array(
            z.strictObject({
              principals: names.exactOptional(),
              notPrincipals: names.exactOptional(),
              namespaces: names.exactOptional(),
              notNamespaces: names.exactOptional(),
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
      }),
    )
    .readonly(),
});

/**
 * A snapshot as it arrives. Strict: a field that this version does not know may narrow a rule, so ignoring it could
 * open what the author closed. The whole revision is refused instead and the last good one stays in force.
 */
export const snapshotSchema: z.ZodType<Snapshot> = z.strictObject({
  revision: z.int().min(1),
  createdAt: z.iso.datetime({ offset: true }),
  createdBy: z.string(),
  trustDomain: z.string().min(1),
  mesh: z.strictObject({
    defaultAction: z.enum(['allow', 'audit', 'deny']),
    mtls: z.enum(['STRICT', 'PERMISSIVE']),
    rootNamespace: z.string().min(1),
  }),
  rules: z.array(rule).readonly(),
  authorizationPolicies: z.array(authorizationPolicy).readonly(),
});
