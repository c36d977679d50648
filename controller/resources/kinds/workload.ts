import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { addressField, cidrField, portField, subdomainField } from './field-schemas.js';
import { culvertApiVersion, namespacedMetadata } from './metadata.js';

/** Name under /run/netns, or the absolute path of a network namespace. */
const netns = z
  .string()
  .max(4096)
  .refine(isNetns, 'must be a name under /run/netns or an absolute path')
  .register(fieldNotes, { example: 'billing-api' });

function isNetns(text: string): boolean {
  if (text.startsWith('/')) return !text.includes('\0') && !text.split('/').includes('..');
  return /^[A-Za-z0-9_.-]{1,255}$/.test(text) && text !== '.' && text !== '..';
}

/** Traffic of the workload that the agent leaves alone. */
const capture = z.strictObject({
  excludeInboundPorts: z.array(portField).exactOptional(),
  excludeOutboundPorts: z.array(portField).exactOptional(),
  excludeOutboundCidrs: z.array(cidrField).exactOptional(),
});

/** A network namespace plus an identity (DESIGN §2). Its labels are `metadata.labels`. */
export const workloadSchema = z.strictObject({
  apiVersion: z.literal(culvertApiVersion),
  kind: z.literal('Workload'),
  metadata: namespacedMetadata,
  spec: z
    .strictObject({
      serviceAccount: subdomainField('api').default('default'),
      node: subdomainField('host-a').exactOptional(),
      addresses: z
        .array(addressField)
        .min(1, 'must have at least one address')
        .register(fieldNotes, { example: '["198.18.0.10"]' }),
      netns: netns.exactOptional(),
      capture: capture.exactOptional(),
    })
    .superRefine((spec, context) => {
      if (spec.netns !== undefined && spec.node === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['netns'],
          message: 'needs the node that it is on: add spec.node',
        });
      }
    }),
});

export type Workload = z.output<typeof workloadSchema>;
