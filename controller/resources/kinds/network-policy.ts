import { z } from 'zod';
import { cidrContains, parseCidr } from '../../../shared/address.js';
import { fieldNotes } from './field-notes.js';
import { isPort, labelsField, networkField, portField } from './field-schemas.js';
import { namespacedMetadata } from './metadata.js';

export const kubernetesNetworkingApiVersion = 'networking.k8s.io/v1';

const requirement = z
  .strictObject({
    key: z.string().min(1, 'must not be empty').max(317),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
    values: z.array(z.string()).exactOptional(),
  })
  .superRefine(({ operator, values = [] }, context) => {
    const needsValues = operator === 'In' || operator === 'NotIn';
    if (needsValues === values.length > 0) return;
    const message = needsValues ? `must not be empty for ${operator}` : `must be left out for ${operator}`;
    context.addIssue({ code: 'custom', path: ['values'], message });
  })
  .register(fieldNotes, { example: '{ key: app, operator: In, values: [api] }' });

/** Kubernetes' LabelSelector; an empty one selects everything. */
const labelSelector = z
  .strictObject({ matchLabels: labelsField.exactOptional(), matchExpressions: z.array(requirement).exactOptional() })
  .register(fieldNotes, { example: '{ matchLabels: { app: api } }' });

const ipBlock = z
  .strictObject({ cidr: networkField, except: z.array(networkField).exactOptional() })
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
    podSelector: labelSelector.exactOptional(),
    namespaceSelector: labelSelector.exactOptional(),
    ipBlock: ipBlock.exactOptional(),
  })
  .superRefine((fields, context) => {
    const written = Object.keys(fields);
    if (written.length === 0)
      context.addIssue({ code: 'custom', message: 'must name a podSelector, namespaceSelector or ipBlock' });
    if (fields.ipBlock !== undefined && written.length > 1) {
      context.addIssue({ code: 'custom', path: ['ipBlock'], message: 'stands alone: write two peers' });
    }
  })
  .register(fieldNotes, { example: '{ podSelector: { matchLabels: { app: api } } }' });

const portProblem = 'is the name of a port, and workloads have no named ports: write the number';

const policyPort = z
  .strictObject({
    protocol: z.enum(['TCP', 'UDP', 'SCTP']).default('TCP'),
    port: z
      .union([z.number(), z.string()])
      .refine((value) => typeof value === 'number', portProblem)
      .refine((value) => typeof value !== 'number' || isPort(value), 'must be a port from 1 to 65535')
      .exactOptional()
      .register(fieldNotes, { example: '5432' }),
    endPort: portField.exactOptional(),
  })
  .superRefine(({ port, endPort }, context) => {
    if (endPort === undefined) return;
    if (port === undefined) context.addIssue({ code: 'custom', path: ['endPort'], message: 'needs port' });
    else if (endPort < port) {
      context.addIssue({ code: 'custom', path: ['endPort'], message: 'must not be lower than port' });
    }
  })
  .register(fieldNotes, { example: '{ protocol: TCP, port: 5432 }' });

const ports = z.array(policyPort).exactOptional();
const peers = z.array(peer).exactOptional();

/**
 * Kubernetes' NetworkPolicy, with its semantics (see `networkPolicyVerdict`). UDP and SCTP are taken and mean nothing
 * here, since Culvert carries TCP: what only allows them allows nothing.
 * Source: Kubernetes, Network Policies, and the API reference of networking.k8s.io/v1.
 */
export const networkPolicySchema = z.strictObject({
  apiVersion: z.literal(kubernetesNetworkingApiVersion),
  kind: z.literal('NetworkPolicy'),
  metadata: namespacedMetadata,
  spec: z
    .strictObject({
      podSelector: labelSelector,
      policyTypes: z.array(z.enum(['Ingress', 'Egress'])).exactOptional(),
      ingress: z.array(z.strictObject({ from: peers, ports }).register(fieldNotes, { example: '{}' })).exactOptional(),
      egress: z.array(z.strictObject({ to: peers, ports }).register(fieldNotes, { example: '{}' })).exactOptional(),
    })
    .register(fieldNotes, { example: '{ podSelector: {}, policyTypes: [Ingress] }' }),
});

export type NetworkPolicy = z.output<typeof networkPolicySchema>;
export type NetworkPolicySelector = z.output<typeof labelSelector>;
export type NetworkPolicyPort = z.output<typeof policyPort>;
export type NetworkPolicyPeerField = z.output<typeof peer>;
