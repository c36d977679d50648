import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { portField } from './field-schemas.js';
import {
  gatewayApiGroup,
  groupField,
  kindField,
  referentName,
  referentNamespace,
  routeMetadata,
} from './gateway-api.js';
import { apiVersionText, kindText, metadataText, specText } from './metadata.js';

export const tcpRouteApiVersions = [`${gatewayApiGroup}/v1`, `${gatewayApiGroup}/v1alpha2`] as const;

const noGateway =
  'Culvert has no gateways, and routes connections of the members of the mesh: name a Service with group: "" and kind: Service';

const parentRef = z
  .strictObject({
    group: groupField
      .exactOptional()
      .describe('`""`, the core of Kubernetes. Without it the parent is a Gateway, and refused.')
      .register(fieldNotes, { example: '""', limits: '`""` alone' }),
    kind: kindField
      .exactOptional()
      .describe('`Service`. Without it the parent is a Gateway, and refused.')
      .register(fieldNotes, { example: 'Service', limits: '`Service` alone' }),
    namespace: referentNamespace.describe(
      'Namespace of the Service. In another one than the route, only clients of the namespace of the route go by it.',
    ),
    name: referentName.describe('The service that clients dial.'),
    port: portField.exactOptional().describe('Port of the service, as clients dial it. Without it all of them.'),
  })
  .superRefine(({ group = gatewayApiGroup, kind = 'Gateway' }, context) => {
    if (group === '' && kind === 'Service') return;
    const path = group === '' ? ['kind'] : ['group'];
    context.addIssue({ code: 'custom', path, message: `names a ${kind} of ${group || 'Kubernetes'}: ${noGateway}` });
  })
  .register(fieldNotes, {
    example: '{ group: "", kind: Service, name: web }',
    refusedFields: { sectionName: 'ports of services have no names here: write port with its number' },
  });

const backendRef = z
  .strictObject({
    group: groupField
      .exactOptional()
      .describe('Group of the kind. Without it `""`, the core of Kubernetes.')
      .register(fieldNotes, { example: '""' }),
    kind: kindField
      .exactOptional()
      .describe('Without it `Service`. The share of any other kind is refused.')
      .register(fieldNotes, { example: 'Service' }),
    namespace: referentNamespace.describe(
      'Its namespace. Another one than that of the route needs a ReferenceGrant there; without one its share is refused.',
    ),
    name: referentName.describe('Its name. The share of a service that is not there is refused.'),
    port: portField
      .exactOptional()
      .describe('Port of the service, as clients would dial it.')
      .register(fieldNotes, { limits: 'needed for a Service' }),
    weight: z
      .int('must be a whole number')
      .min(0, 'must not be negative')
      .max(1_000_000, 'must be at most 1000000')
      .register(fieldNotes, { example: '90', openApi: { type: 'integer', minimum: 0, maximum: 1_000_000 } })
      .exactOptional()
      .describe('Share of the connections, relative to the other weights. Without it 1.'),
  })
  .superRefine(({ group = '', kind = 'Service', port }, context) => {
    if (port !== undefined || group !== '' || kind !== 'Service') return;
    context.addIssue({ code: 'custom', path: ['port'], message: 'is missing: a Service is named with its port' });
  })
  .register(fieldNotes, {
    example: '{ name: web-v2, port: 80, weight: 10 }',
    refusedFields: { filters: 'they are about HTTP, and Culvert carries TCP without reading it: leave it out' },
  });

const rule = z
  .strictObject({
    name: z
      .string()
      .max(253, 'must have at most 253 characters')
      .exactOptional()
      .describe('Name of the rule, for people.')
      .register(fieldNotes, { example: 'canary' }),
    backendRefs: z
      .array(backendRef)
      .min(1, 'must have at least one backend')
      .max(16, 'must have at most 16 backends')
      .describe(
        'Among which services connections are shared, each by its weight. The share of one that is invalid or serves nothing is refused.',
      )
      .register(fieldNotes, { example: '[{ name: web-v2, port: 80 }]' }),
  })
  .register(fieldNotes, {
    example: '{ backendRefs: [{ name: web-v2, port: 80 }] }',
    refusedFields: {
      matches: 'a TCPRoute is for all connections to a port: write a VirtualService, whose tcp has match',
      filters: 'they are about HTTP, and Culvert carries TCP without reading it: leave it out',
      timeouts: 'it is about HTTP: write timeout of a route of a VirtualService',
      retry: 'it is about HTTP: write retries of a route of a VirtualService',
      sessionPersistence: 'write consistentHash in a DestinationRule for the backend',
    },
  });

/**
 * TCPRoute of the Gateway API, attached to services (the mesh profile, GAMMA). It never changes what is allowed. Source: Gateway
 * API, TCPRoute and GEP-1294; conflicts, "Route conflict resolution" of its guidelines.
 */
export const tcpRouteSchema = z
  .strictObject({
    apiVersion: z.enum(tcpRouteApiVersions).describe(apiVersionText),
    kind: z.literal('TCPRoute').describe(kindText),
    metadata: routeMetadata.describe(metadataText),
    spec: z
      .strictObject({
        parentRefs: z
          .array(parentRef)
          .min(1, 'must have at least one Service')
          .max(32, 'must have at most 32')
          .superRefine((parents, context) => {
            const keys = parents.map(({ namespace = '', name, port = '' }) => `${namespace}/${name}:${port}`);
            for (const [index, key] of keys.entries()) {
              if (keys.indexOf(key) === index) continue;
              context.addIssue({ code: 'custom', path: [index], message: 'is listed twice' });
            }
          })
          .describe('The services whose connections go by the route.')
          .register(fieldNotes, { example: '[{ group: "", kind: Service, name: web }]' }),
        rules: z
          .array(rule)
          .length(1, 'must be one rule: TCP has nothing to tell connections of a second one apart by')
          .describe('Where connections go.')
          .register(fieldNotes, { example: '[{ backendRefs: [{ name: web-v2, port: 80 }] }]' }),
      })
      .describe(specText)
      .register(fieldNotes, {
        example:
          '{ parentRefs: [{ group: "", kind: Service, name: web }], rules: [{ backendRefs: [{ name: web-v2, port: 80 }] }] }',
        refusedFields: {
          useDefaultGateways: 'Culvert has no gateways: name the Services in parentRefs',
          hostnames: 'TCP has no host names: name the Services in parentRefs',
        },
      }),
  })
  .describe(
    'TCPRoute of the Gateway API for connections to services of the mesh: among which other services they are shared. Of several for a port the first counts: one that names the port, then the older one, then by name. It changes nothing that is allowed.',
  );

export type TcpRoute = z.output<typeof tcpRouteSchema>;
