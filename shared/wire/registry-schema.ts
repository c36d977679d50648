import { z } from 'zod';
import { parseIp, type IpAddress } from '../address.js';
import { parseSpiffeId, type SpiffeId } from '../identity.js';
import { isEntryFeature, type EntryFeature, type RegistryEntry } from '../routing/registry-entry.js';
import { nodeName } from './requests.js';

const port = z.int().min(1).max(65_535);
const name = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/)
  .max(253);
const portName = z.string().min(1).max(63);
const labels = z.record(z.string(), z.string()).readonly();
const ip = z.custom<IpAddress>(
  (value) => typeof value === 'string' && parseIp(value) === value,
  'not a canonical IP address',
);
const identity = z.custom<SpiffeId>(
  (value) => typeof value === 'string' && parseSpiffeId(value) !== undefined,
  'not a workload identity',
);

const requires = z
  .array(z.custom<EntryFeature>(isEntryFeature, 'requires what this version does not know'))
  .readonly()
  .exactOptional();

const availability = z.enum(['unready', 'ending']);
const locality = z.object({ host: z.string().min(1).max(253), zone: z.string().min(1).max(253).exactOptional() });

const workload = z.object({
  kind: z.literal('workload'),
  requires,
  namespace: name,
  name,
  serviceAccount: name,
  identity,
  labels,
  addresses: z.array(ip).readonly(),
  node: nodeName.nullable(),
  netns: z.string().min(1).nullable(),
  protocol: z.enum(['hbone', 'tcp']),
  capture: z.object({
    excludeOutboundPorts: z.array(port).readonly(),
    excludeInboundPorts: z.array(port).readonly(),
    excludeOutboundCidrs: z.array(z.string()).readonly(),
  }),
  ports: z.record(portName, port).readonly().exactOptional(),
  lateAcceptPorts: z.array(port).readonly().exactOptional(),
  availability: availability.exactOptional(),
  locality: locality.exactOptional(),
});

const service = z.object({
  kind: z.literal('service'),
  requires,
  namespace: name,
  name,
  vips: z.array(ip).readonly(),
  ports: z
    .array(
      z.object({
        port,
        targetPort: z.union([port, portName]),
        earlyAccept: z.literal(false).exactOptional(),
      }),
    )
    .readonly(),
  selector: labels,
  endpoints: z
    .array(
      z.object({
        address: ip,
        ports: z.record(z.string().regex(/^\d{1,5}$/), port).readonly(),
        availability: availability.exactOptional(),
        locality: locality.exactOptional(),
      }),
    )
    .readonly()
    .exactOptional(),
  takesUnready: z.literal(true).exactOptional(),
  distribution: z.enum(['same-host', 'prefer-same-host', 'prefer-same-zone']).exactOptional(),
  isSticky: z.literal(true).exactOptional(),
});

/**
 * The schema of a received registry entry. A field that this version does not know is passed over, so that a newer controller
 * can say more to newer agents. What an agent must not pass over is in `requires`, and makes the entry unreadable where it is
 * not known, as an unknown value of a known field does.
 */
export const registryEntrySchema: z.ZodType<RegistryEntry> = z.discriminatedUnion('kind', [workload, service]);
