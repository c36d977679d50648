import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { addressField, earlyAcceptField, isPort, isPortName, portField, selectorField } from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

const targetProblem = 'must be a port from 1 to 65535, or the name of a port of the workloads';

const servicePort = z
  .strictObject({
    port: portField.describe('Port that clients dial.').register(fieldNotes, { limits: 'each port once' }),
    targetPort: z
      .union([z.number(), z.string()], { error: targetProblem })
      .refine((value) => (typeof value === 'number' ? isPort(value) : isPortName(value)), targetProblem)
      .exactOptional()
      .describe(
        'Port of the workloads, or the name that they give to one; a workload without that name is no endpoint. Without it the same port.',
      )
      .register(fieldNotes, { example: '8080', type: 'port or port name' }),
    earlyAccept: earlyAcceptField.describe(
      "`false`: a client's `connect()` to this port returns when one of the workloads has accepted, and fails when it cannot be reached.",
    ),
  })
  .register(fieldNotes, { example: '{ port: 80, targetPort: 8080 }' });

/** Virtual addresses in front of the workloads of the same namespace that carry all labels of `selector`. */
export const serviceSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('Service').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        vips: z
          .array(addressField)
          .min(1, 'must have at least one address')
          .describe('Virtual addresses of the service. A connection to one of them goes to one of its workloads.')
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
          .describe('Ports of the service. A connection to any other port of its addresses is refused: `NO_ENDPOINT`.')
          .register(fieldNotes, { example: '[{ port: 80, targetPort: 8080 }]' }),
        selector: selectorField.describe('Labels that the workloads behind the service have, in its own namespace.'),
        trafficDistribution: z
          .enum(['PreferSameZone', 'PreferSameNode'])
          .exactOptional()
          .describe(
            'Which workloads a client gets, as in Kubernetes. `PreferSameZone`: those in its own zone. `PreferSameNode`: those on its own node, else in its zone. Where none of them serves, all others. Without it all. The zone is `spec.zone` of a Workload.',
          )
          .register(fieldNotes, {
            refusedValues: { PreferClose: 'it is the older name of PreferSameZone: write that' },
          }),
      })
      .describe(specText),
  })
  .describe('Virtual addresses in front of the workloads of one namespace that have the labels of `selector`.');

export type Service = z.output<typeof serviceSchema>;
