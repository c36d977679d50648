import { z } from 'zod';
import { istioSecurityApiVersions, istioWorkloadSelector } from './authorization-policy.js';
import { fieldNotes } from './field-notes.js';
import { isPort } from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

/** `UNSET`, or no mode at all, inherits from the next wider scope. */
const mtls = z
  .strictObject({
    mode: z
      .enum(['UNSET', 'PERMISSIVE', 'STRICT'])
      .exactOptional()
      .describe('`STRICT` refuses plaintext, `PERMISSIVE` leaves it to the rules, `UNSET` asks the next wider scope.')
      .register(fieldNotes, {
        refusedValues: {
          DISABLE: 'would take encryption away, and members of the mesh always encrypt, as in Istio ambient',
        },
      }),
  })
  .register(fieldNotes, { example: '{ mode: STRICT }' });

/**
 * Istio's PeerAuthentication: whether plaintext from outside the mesh is refused (STRICT) or left to the rules
 * (PERMISSIVE), for a workload and its ports, for a namespace, or from the root namespace for the mesh. Source: Istio's
 * reference, Security / PeerAuthentication.
 */
export const peerAuthenticationSchema = z
  .strictObject({
    apiVersion: z.enum([culvertApiVersion, ...istioSecurityApiVersions]).describe(apiVersionText),
    kind: z.literal('PeerAuthentication').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        selector: istioWorkloadSelector
          .exactOptional()
          .describe(
            'Workloads of the namespace that the document is for. Without it all of them. In the root namespace a document with labels here is ignored, as in Istio.',
          ),
        mtls: mtls.exactOptional().describe('Whether plaintext from outside the mesh is refused.'),
        portLevelMtls: z
          .record(
            z.string().refine((text) => /^\d+$/.test(text) && isPort(Number(text)), 'is not a port from 1 to 65535'),
            mtls,
          )
          .exactOptional()
          .describe('The same for single ports of the workloads, by the number of the port.')
          .register(fieldNotes, {
            example: '{ 8080: { mode: PERMISSIVE } }',
            limits: 'needs a `selector` with labels',
          }),
      })
      .describe(specText)
      .superRefine(({ selector, portLevelMtls }, context) => {
        if (portLevelMtls === undefined || Object.keys(selector?.matchLabels ?? {}).length > 0) return;
        const message = 'needs a selector: ports belong to workloads, not to a namespace or the mesh';
        context.addIssue({ code: 'custom', path: ['portLevelMtls'], message });
      })
      .default({})
      .register(fieldNotes, {
        example: '{ mtls: { mode: STRICT } }',
        openApi: {
          rules: {
            'portLevelMtls needs a selector: ports belong to workloads':
              '!has(self.portLevelMtls) || (has(self.selector) && has(self.selector.matchLabels))',
          },
        },
      }),
  })
  .describe(
    'PeerAuthentication of Istio: whether plaintext from outside the mesh is refused. The narrowest scope wins: port, workload, namespace, mesh.',
  );

export type PeerAuthentication = z.output<typeof peerAuthenticationSchema>;
