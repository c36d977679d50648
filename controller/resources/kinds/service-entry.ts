import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { earlyAcceptField, networkField, portField } from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

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
    number: portField.describe('Number of the port.'),
    name: z.string().min(1, 'must not be empty').max(256).exactOptional().describe('Name of the port, for people.'),
    // Istio reads it in any case (pkg/config/protocol/instance.go).
    protocol: z
      .preprocess(
        (value) => (typeof value === 'string' ? value.toUpperCase() : value),
        z.enum(['TCP', 'TLS', 'HTTPS', 'HTTP', 'HTTP2', 'GRPC', 'GRPC-WEB', 'MONGO']),
      )
      .exactOptional()
      .describe('Protocol of the port, for people. Culvert carries all of them as TCP.'),
    earlyAccept: earlyAcceptField.describe(
      "Culvert's own. `false`: a client's `connect()` to this port returns when the far side has accepted, and fails when it refuses.",
    ),
  })
  .register(fieldNotes, {
    example: '{ number: 443, name: tls, protocol: TLS }',
    refusedFields: { targetPort: 'connections outside the mesh go to the port that was dialled' },
  });

const endpoint = z.strictObject({ address: networkField.describe('Address of the endpoint.') }).register(fieldNotes, {
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
 * Istio's ServiceEntry, limited to addresses. It names addresses outside the mesh, so that rules can refer to them with
 * `service: namespace/name`; in the root namespace it also takes them out of `external`. It does not change routing. Source:
 * Istio's reference, Networking / Service Entry.
 */
export const serviceEntrySchema = z
  .strictObject({
    apiVersion: z.enum([culvertApiVersion, ...istioNetworkingApiVersions]).describe(apiVersionText),
    kind: z.literal('ServiceEntry').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        hosts: z
          .array(host)
          .min(1, 'must have at least one name')
          .describe('DNS names, for people: Culvert looks up no names.')
          .register(fieldNotes, { example: '[bank.example.com]' }),
        addresses: z
          .array(networkField)
          .min(1, 'must not be empty: leave it out')
          .exactOptional()
          .describe('Addresses that the name stands for.')
          .register(fieldNotes, { limits: 'this or `endpoints`, never both' }),
        ports: z
          .array(port)
          .min(1, 'must not be empty: leave it out')
          .exactOptional()
          .describe('Ports on which the addresses have the name. Without it every port.'),
        location: z
          .enum(['MESH_EXTERNAL'])
          .default('MESH_EXTERNAL')
          .describe('Where the addresses are: outside the mesh.')
          .register(fieldNotes, {
            refusedValues: { MESH_INTERNAL: 'is for members of the mesh, and those are a Workload and a Service' },
          }),
        resolution: z
          .enum(['NONE', 'STATIC'])
          .default('NONE')
          .describe('`STATIC` takes the addresses of `endpoints`, `NONE` those of `addresses`.')
          .register(fieldNotes, {
            refusedValues: {
              DNS: `looks up the hosts, and ${byAddress}: write the addresses`,
              DNS_ROUND_ROBIN: `looks up the hosts, and ${byAddress}: write the addresses`,
              DYNAMIC_DNS: `looks up the hosts, and ${byAddress}: write the addresses`,
            },
          }),
        endpoints: z
          .array(endpoint)
          .min(1, 'must not be empty: leave it out')
          .exactOptional()
          .describe('Addresses that the name stands for, as Istio writes them for the resolution `STATIC`.')
          .register(fieldNotes, { limits: 'this or `addresses`, never both; only with the resolution `STATIC`' }),
        exportTo: z
          .array(z.literal('*'))
          .exactOptional()
          .describe('Namespaces whose rules may name the entry: all of them.'),
      })
      .describe(specText)
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
        openApi: {
          rules: {
            'either addresses or endpoints must be there': 'has(self.addresses) != has(self.endpoints)',
            'endpoints belong to the resolution STATIC':
              "!has(self.endpoints) || (has(self.resolution) && self.resolution == 'STATIC')",
          },
        },
        example: '{ hosts: [bank.example.com], addresses: [203.0.113.9], ports: [{ number: 443 }] }',
        refusedFields: {
          workloadSelector: 'is for members of the mesh, and those are selected by a Service',
          subjectAltNames: 'the agent opens no TLS to what is outside the mesh',
        },
      }),
  })
  .describe(
    'ServiceEntry of Istio, as far as it concerns addresses: it gives addresses outside the mesh a name, so that rules can name them. In the root namespace of the mesh it also takes them out of `external`. It changes no route and looks up nothing.',
  );

export type ServiceEntry = z.output<typeof serviceEntrySchema>;
