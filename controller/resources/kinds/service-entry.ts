import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { networkField, portField } from './field-schemas.js';
import { culvertApiVersion, namespacedMetadata } from './metadata.js';

export const istioNetworkingApiVersions = [
  'networking.istio.io/v1',
  'networking.istio.io/v1beta1',
  'networking.istio.io/v1alpha3',
] as const;

const byAddress = 'Culvert carries connections by their address and resolves no names';

const host = z
  .string()
  .regex(
    /^(?=.{1,253}$)(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$/,
    'is not a DNS name',
  )
  .register(fieldNotes, { example: 'bank.example.com' });

const port = z
  .strictObject({
    number: portField,
    name: z.string().min(1, 'must not be empty').max(256).exactOptional(),
    protocol: z.enum(['TCP', 'TLS', 'HTTPS', 'HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB', 'MONGO']).exactOptional(),
  })
  .register(fieldNotes, {
    example: '{ number: 443, name: tls, protocol: TLS }',
    refusedFields: { targetPort: 'connections outside the mesh go to the port that was dialled' },
  });

const endpoint = z.strictObject({ address: networkField }).register(fieldNotes, {
  example: '{ address: 203.0.113.9 }',
  refusedFields: {
    ports: 'connections outside the mesh go to the port that was dialled',
    labels: `subsets belong to routing: ${byAddress}`,
    network: 'there are no networks behind gateways',
    locality: 'connections outside the mesh go to the address that was dialled',
    weight: 'connections outside the mesh go to the address that was dialled',
    serviceAccount: 'what is outside the mesh proves no identity; a member of the mesh is a Workload',
  },
});

/**
 * Istio's ServiceEntry, the part that means something by address: it gives addresses outside the mesh a name, so that
 * they are not `external`, and rules can say `service: namespace/name`. It changes no route.
 * Source: Istio's reference, Networking / Service Entry.
 */
export const serviceEntrySchema = z.strictObject({
  apiVersion: z.enum([culvertApiVersion, ...istioNetworkingApiVersions]),
  kind: z.literal('ServiceEntry'),
  metadata: namespacedMetadata,
  spec: z
    .strictObject({
      hosts: z
        .array(host)
        .min(1, 'must have at least one name')
        .register(fieldNotes, { example: '[bank.example.com]' }),
      addresses: z.array(networkField).min(1, 'must not be empty: leave it out').exactOptional(),
      ports: z.array(port).min(1, 'must not be empty: leave it out').exactOptional(),
      location: z
        .enum(['MESH_EXTERNAL'])
        .default('MESH_EXTERNAL')
        .register(fieldNotes, {
          refusedValues: { MESH_INTERNAL: 'is for members of the mesh, and those are a Workload and a Service' },
        }),
      resolution: z
        .enum(['NONE', 'STATIC'])
        .default('NONE')
        .register(fieldNotes, {
          refusedValues: {
            DNS: `looks up the hosts, and ${byAddress}: write the addresses`,
            DNS_ROUND_ROBIN: `looks up the hosts, and ${byAddress}: write the addresses`,
            DYNAMIC_DNS: `looks up the hosts, and ${byAddress}: write the addresses`,
          },
        }),
      endpoints: z.array(endpoint).min(1, 'must not be empty: leave it out').exactOptional(),
      exportTo: z.array(z.literal('*')).exactOptional(),
    })
    .superRefine(({ addresses, endpoints, resolution }, context) => {
      const refuse = (field: string, message: string) => {
        context.addIssue({ code: 'custom', path: [field], message });
      };
      if (addresses === undefined && endpoints === undefined) {
        refuse('addresses', `are missing, and without them it names nothing: ${byAddress}`);
      }
      if (addresses !== undefined && endpoints !== undefined) {
        refuse('endpoints', 'would need a route from addresses to them: leave out one of the two');
      }
      if (endpoints !== undefined && resolution !== 'STATIC') refuse('endpoints', 'belong to the resolution STATIC');
    })
    .register(fieldNotes, {
      example: '{ hosts: [bank.example.com], addresses: [203.0.113.9], ports: [{ number: 443 }] }',
      refusedFields: {
        workloadSelector: 'is for members of the mesh, and those are selected by a Service',
        subjectAltNames: 'the agent opens no TLS to what is outside the mesh',
      },
    }),
});

export type ServiceEntry = z.output<typeof serviceEntrySchema>;
