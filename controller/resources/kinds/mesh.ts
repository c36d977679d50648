import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { labelsField, namespaceField } from './field-schemas.js';
import { culvertApiVersion } from './metadata.js';

/**
 * In force while no Mesh resource is applied: nothing is refused that no rule refuses, as in Istio. `istio-system` is
 * Istio's own default, so that mesh-wide AuthorizationPolicies keep their reach when they are copied.
 */
export const defaultMesh = {
  defaultAction: 'allow',
  mtls: 'PERMISSIVE',
  rootNamespace: 'istio-system',
} as const satisfies Mesh['spec'];

/** Settings of the whole mesh. There is one, named `default`. */
export const meshSchema = z.strictObject({
  apiVersion: z.literal(culvertApiVersion),
  kind: z.literal('Mesh'),
  metadata: z
    .strictObject({
      name: z.literal('default'),
      labels: labelsField.exactOptional(),
      annotations: z.record(z.string(), z.string()).exactOptional(),
    })
    .register(fieldNotes, {
      refusedFields: { namespace: 'this kind belongs to the whole mesh: remove the namespace' },
    }),
  spec: z.strictObject({
    defaultAction: z.enum(['allow', 'audit', 'deny']).default('allow'),
    /** For destinations that no workload, service or ServiceEntry names; as `defaultAction` unless written. */
    outbound: z.enum(['allow', 'audit', 'deny']).exactOptional(),
    mtls: z.enum(['STRICT', 'PERMISSIVE']).default('PERMISSIVE'),
    rootNamespace: namespaceField.default('istio-system'),
  }),
});

export type Mesh = z.output<typeof meshSchema>;
