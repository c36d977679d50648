import { z } from 'zod';
import { cidrContains, parseCidr } from '../../../shared/address.js';
import { fieldNotes } from './field-notes.js';
import { isPort, isPortName, labelsField, networkField, portField } from './field-schemas.js';
import { apiVersionText, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

export const kubernetesNetworkingApiVersion = 'networking.k8s.io/v1';

const requirement = z
  .strictObject({
    key: z.string().min(1, 'must not be empty').max(317).describe('Name of a label.'),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('What must be true of the label.'),
    values: z
      .array(z.string())
      .exactOptional()
      .describe('Values for `In` and `NotIn`.')
      .register(fieldNotes, { limits: 'not empty for `In` and `NotIn`, left out for the others' }),
  })
  .superRefine(({ operator, values = [] }, context) => {
    const needsValues = operator === 'In' || operator === 'NotIn';
    if (needsValues === values.length > 0) return;
    const message = needsValues ? `must not be empty for ${operator}` : `must be left out for ${operator}`;
    context.addIssue({ code: 'custom', path: ['values'], message });
  })
  .register(fieldNotes, { example: '{ key: app, operator: In, values: [api] }' });

/** Kubernetes' LabelSelector; an empty one selects everything. */
export const labelSelector = z
  .strictObject({
    matchLabels: labelsField.exactOptional().describe('Labels that must be there with these values.'),
    matchExpressions: z.array(requirement).exactOptional().describe('Further conditions, which must all hold.'),
  })
  .register(fieldNotes, { example: '{ matchLabels: { app: api } }', part: 'LabelSelector' });

const ipBlock = z
  .strictObject({
    cidr: networkField.describe('Addresses that match.'),
    except: z
      .array(networkField)
      .exactOptional()
      .describe('Addresses in it that do not.')
      .register(fieldNotes, { limits: 'smaller networks inside `cidr`' }),
  })
  .superRefine(({ cidr, except = [] }, context) => {
    const network = parseCidr(cidr);
    for (const [index, text] of except.entries()) {
      const inner = parseCidr(text);
      if (network === undefined || inner === undefined) continue;
      if (inner.prefixLength > network.prefixLength && cidrContains(network, inner.bytes)) continue;
      context.addIssue({ code: 'custom', path: ['except', index], message: `must be a smaller network in ${cidr}` });
    }
  })
  .register(fieldNotes, { example: '{ cidr: 10.0.0.0/8, except: [10.1.0.0/16] }' });

const peer = z
  .strictObject({
    podSelector: labelSelector
      .exactOptional()
      .describe(
        'Workloads, in the namespaces of `namespaceSelector`, or without it in that of the policy. As a source, only a workload that proves its identity: one without an agent does not.',
      ),
    namespaceSelector: labelSelector.exactOptional().describe('Workloads of namespaces with these labels.'),
    ipBlock: ipBlock.exactOptional().describe('Addresses.').register(fieldNotes, { limits: 'stands alone' }),
  })
  .superRefine((fields, context) => {
    const written = Object.keys(fields);
    if (written.length === 0)
      context.addIssue({ code: 'custom', message: 'must name a podSelector, namespaceSelector or ipBlock' });
    if (fields.ipBlock !== undefined && written.length > 1) {
      context.addIssue({ code: 'custom', path: ['ipBlock'], message: 'stands alone: write two peers' });
    }
  })
  .register(fieldNotes, { example: '{ podSelector: { matchLabels: { app: api } } }', part: 'NetworkPolicyPeer' });

const portProblem = 'must be a port from 1 to 65535, or the name of a port';

const policyPort = z
  .strictObject({
    protocol: z
      .enum(['TCP', 'UDP', 'SCTP'])
      .default('TCP')
      .describe('Protocol. UDP and SCTP are accepted and match nothing, because Culvert carries TCP only.'),
    port: z
      .union([z.number(), z.string()], { error: portProblem })
      .refine((value) => (typeof value === 'number' ? isPort(value) : isPortName(value)), portProblem)
      .exactOptional()
      .describe('Port, or the name that the destination gives to one. Without it every port.')
      .register(fieldNotes, { example: '5432', type: 'port or port name' }),
    endPort: portField
      .exactOptional()
      .describe('Last port of a range that begins with `port`.')
      .register(fieldNotes, { limits: 'only together with `port`, and not lower' }),
  })
  .superRefine(({ port, endPort }, context) => {
    if (endPort === undefined) return;
    if (port === undefined) context.addIssue({ code: 'custom', path: ['endPort'], message: 'needs port' });
    else if (typeof port === 'string') {
      context.addIssue({ code: 'custom', path: ['endPort'], message: 'needs a port that is a number' });
    } else if (endPort < port) {
      context.addIssue({ code: 'custom', path: ['endPort'], message: 'must not be lower than port' });
    }
  })
  .register(fieldNotes, { example: '{ protocol: TCP, port: 5432 }', part: 'NetworkPolicyPort' });

const ports = z.array(policyPort).exactOptional().describe('Ports, as alternatives. Without it every port.');
const peers = z.array(peer).exactOptional();

/**
 * Kubernetes' NetworkPolicy with its semantics (see `networkPolicyVerdict`). UDP and SCTP are accepted but have no
 * effect, since Culvert carries TCP: a rule that allows only those allows nothing. Source: Kubernetes, Network
 * Policies, and the API reference of networking.k8s.io/v1.
 */
export const networkPolicySchema = z
  .strictObject({
    apiVersion: z.literal(kubernetesNetworkingApiVersion).describe(apiVersionText),
    kind: z.literal('NetworkPolicy').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        podSelector: labelSelector
          .default({})
          .describe('Workloads of the namespace that the policy isolates. Without it, or with `{}`, all of them.'),
        policyTypes: z
          .array(z.enum(['Ingress', 'Egress']))
          .exactOptional()
          .describe(
            'Directions that the policy isolates. Without any `Ingress`, and `Egress` when `egress` has rules.',
          ),
        ingress: z
          .array(
            z
              .strictObject({ from: peers.describe('Sources, as alternatives. Without it every source.'), ports })
              .register(fieldNotes, { example: '{}' }),
          )
          .exactOptional()
          .describe('Connections to the workloads that are allowed, as alternatives. Without it none.'),
        egress: z
          .array(
            z
              .strictObject({
                to: peers.describe('Destinations, as alternatives. Without it every destination.'),
                ports,
              })
              .register(fieldNotes, { example: '{}' }),
          )
          .exactOptional()
          .describe('Connections of the workloads that are allowed, as alternatives. Without it none.'),
      })
      .describe(specText)
      .prefault({})
      .register(fieldNotes, { example: '{ podSelector: {}, policyTypes: [Ingress] }' }),
  })
  .describe(
    'NetworkPolicy of Kubernetes, with the same meaning. It isolates workloads, and then only what one of their policies allows is allowed.',
  );

export type NetworkPolicy = z.output<typeof networkPolicySchema>;
export type NetworkPolicySelector = z.output<typeof labelSelector>;
export type NetworkPolicyPort = z.output<typeof policyPort>;
export type NetworkPolicyPeerField = z.output<typeof peer>;
