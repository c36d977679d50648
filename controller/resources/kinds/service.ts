import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { addressField, portField, selectorField } from './field-schemas.js';
import { culvertApiVersion, namespacedMetadata } from './metadata.js';

const servicePort = z
  .strictObject({ port: portField, targetPort: portField.exactOptional() })
  .register(fieldNotes, { example: '{ port: 80, targetPort: 8080 }' });

/** Virtual addresses in front of the workloads of the same namespace that carry all labels of `selector`. */
export const serviceSchema = z.strictObject({
  apiVersion: z.literal(culvertApiVersion),
  kind: z.literal('Service'),
  metadata: namespacedMetadata,
  spec: z.strictObject({
    vips: z
      .array(addressField)
      .min(1, 'must have at least one address')
      .register(fieldNotes, { example: '["198.19.0.1"]' }),
    ports: z
      .array(servicePort)
      .min(1, 'must have at least one port')
      .superRefine((ports, context) => {
        for (const [index, { port }] of ports.entries()) {
          if (ports.findIndex((other) => other.port === port) === index) continue;
          context.addIssue({ code: 'custom', path: [index, 'port'], message: 'is listed twice' });
        }
      })
      .register(fieldNotes, { example: '[{ port: 80, targetPort: 8080 }]' }),
    selector: selectorField,
  }),
});

export type Service = z.output<typeof serviceSchema>;
