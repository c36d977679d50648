import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { namespaceField } from './field-schemas.js';
import { gatewayApiGroup, groupField, kindField, referentName } from './gateway-api.js';
import { apiVersionText, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

export const referenceGrantApiVersions = [`${gatewayApiGroup}/v1`, `${gatewayApiGroup}/v1beta1`] as const;

const from = z
  .strictObject({
    group: groupField.describe('Group of the kind that refers.').register(fieldNotes, { example: gatewayApiGroup }),
    kind: kindField
      .describe('Kind that refers. Kinds that Culvert does not take grant nothing here.')
      .register(fieldNotes, { example: 'TCPRoute' }),
    namespace: namespaceField.describe('Namespace of what refers.'),
  })
  .register(fieldNotes, { example: `{ group: ${gatewayApiGroup}, kind: TCPRoute, namespace: shop }` });

const to = z
  .strictObject({
    group: groupField
      .describe('Group of the kind that is referred to; `""` is the core of Kubernetes.')
      .register(fieldNotes, { example: '""' }),
    kind: kindField.describe('Kind that is referred to.').register(fieldNotes, { example: 'Service' }),
    name: referentName.exactOptional().describe('The only object. Without it all of the kind in the namespace.'),
  })
  .register(fieldNotes, { example: '{ group: "", kind: Service }' });

/**
 * ReferenceGrant of the Gateway API: its namespace lets documents of others name its services. Without one the reference is as
 * if the service were not there. Source: Gateway API, ReferenceGrant.
 */
export const referenceGrantSchema = z
  .strictObject({
    apiVersion: z.enum(referenceGrantApiVersions).describe(apiVersionText),
    kind: z.literal('ReferenceGrant').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        from: z
          .array(from)
          .min(1, 'must have at least one')
          .max(16, 'must have at most 16')
          .describe('What may refer, as alternatives.')
          .register(fieldNotes, { example: `[{ group: ${gatewayApiGroup}, kind: TCPRoute, namespace: shop }]` }),
        to: z
          .array(to)
          .min(1, 'must have at least one')
          .max(16, 'must have at most 16')
          .describe('To what of its namespace, as alternatives.')
          .register(fieldNotes, { example: '[{ group: "", kind: Service }]' }),
      })
      .describe(specText)
      .register(fieldNotes, {
        example: `{ from: [{ group: ${gatewayApiGroup}, kind: TCPRoute, namespace: shop }], to: [{ group: "", kind: Service }] }`,
      }),
  })
  .describe(
    'ReferenceGrant of the Gateway API: lets TCPRoutes of other namespaces lead connections to services of its own. It changes nothing that is allowed.',
  );

export type ReferenceGrant = z.output<typeof referenceGrantSchema>;
