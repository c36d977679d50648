import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { addressField, cidrField, portField, subdomainField } from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

/** A name under /run/netns, or the absolute path of a network namespace. */
const netns = z
  .string()
  .max(4096)
  .refine(isNetns, 'must be a name under /run/netns or an absolute path')
  .register(fieldNotes, { example: 'billing-api', type: 'name or path' });

function isNetns(text: string): boolean {
  if (text.startsWith('/')) return !text.includes('\0') && !text.split('/').includes('..');
  return /^[A-Za-z0-9_.-]{1,255}$/.test(text) && text !== '.' && text !== '..';
}

/** Traffic of the workload that the agent does not capture. */
const capture = z.strictObject({
  excludeInboundPorts: z
    .array(portField)
    .exactOptional()
    .describe(
      'Connections to these ports of the workload are not captured. No rule and no encryption applies to them.',
    ),
  excludeOutboundPorts: z
    .array(portField)
    .exactOptional()
    .describe('Connections of the workload to these ports, of any destination, are not captured.'),
  excludeOutboundCidrs: z
    .array(cidrField)
    .exactOptional()
    .describe('Connections of the workload to these networks are not captured.'),
});

/** A network namespace plus an identity. Its labels are `metadata.labels`. */
export const workloadSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('Workload').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        serviceAccount: subdomainField('api')
          .default('default')
          .describe('Account in the namespace of the workload. Both make the identity in its certificate.'),
        node: subdomainField('host-a')
          .exactOptional()
          .describe(
            'Host that the workload runs on. Without it no agent serves the workload: it is reached in plaintext.',
          ),
        addresses: z
          .array(addressField)
          .min(1, 'must have at least one address')
          .describe('Addresses of the workload, IPv4 and IPv6. No other workload or service may have them.')
          .register(fieldNotes, { example: '["198.18.0.10"]' }),
        netns: netns
          .exactOptional()
          .describe('Network namespace of the workload on its host: a name under /run/netns, or an absolute path.')
          .register(fieldNotes, { limits: 'only together with `node`' }),
        capture: capture.exactOptional().describe('Traffic that the agent leaves alone.'),
      })
      .describe(specText)
      .superRefine((spec, context) => {
        if (spec.netns !== undefined && spec.node === undefined) {
          context.addIssue({
            code: 'custom',
            path: ['netns'],
            message: 'needs the node that it is on: add spec.node',
          });
        }
      }),
  })
  .describe(
    'Something that opens or accepts connections: a network namespace with addresses and an identity. The labels in its metadata are what selectors select by.',
  );

export type Workload = z.output<typeof workloadSchema>;
