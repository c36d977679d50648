import { z } from 'zod';
import { namespaceField } from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, singletonMetadata, specText } from './metadata.js';

/**
 * In force while no Mesh resource is applied. As in Istio, everything is allowed that no rule refuses. `istio-system`
 * is Istio's default, so copied mesh-wide AuthorizationPolicies keep their scope.
 */
export const defaultMesh = {
  defaultAction: 'allow',
  mtls: 'PERMISSIVE',
  rootNamespace: 'istio-system',
} as const satisfies Mesh['spec'];

/** Mesh-wide settings. There is one Mesh resource, named `default`. */
export const meshSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('Mesh').describe(kindText),
    metadata: singletonMetadata('There is one Mesh, and this is its name.'),
    spec: z
      .strictObject({
        defaultAction: z
          .enum(['allow', 'audit', 'deny'])
          .default('allow')
          .describe(
            'What happens to a connection that no rule decides. `audit` allows it and counts what `deny` would refuse.',
          ),
        outbound: z
          .enum(['allow', 'audit', 'deny'])
          .exactOptional()
          .describe(
            'The same for destinations that no workload, service or ServiceEntry of the root namespace names. Without it `defaultAction` applies.',
          ),
        mtls: z
          .enum(['STRICT', 'PERMISSIVE'])
          .default('PERMISSIVE')
          .describe('Whether workloads refuse plaintext from outside the mesh (`STRICT`) or leave it to the rules.'),
        rootNamespace: namespaceField
          .default('istio-system')
          .describe(
            'AuthorizationPolicies and PeerAuthentications of this namespace apply to the whole mesh, and what its ServiceEntries name is `external` for no rule.',
          ),
      })
      .describe(specText),
  })
  .describe('Settings of the whole mesh. There is one, named `default`; without it the defaults apply.');

export type Mesh = z.output<typeof meshSchema>;
