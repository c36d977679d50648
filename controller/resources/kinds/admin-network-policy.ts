import { z } from 'zod';
import {
  clusterEgressPeer,
  clusterIngressPeer,
  clusterPriority,
  clusterSubject,
  peersOf,
  policyApiGroup,
  refuseNamedPorts,
  ruleName,
} from './cluster-policy-parts.js';
import { fieldNotes } from './field-notes.js';
import { portField, portNameField } from './field-schemas.js';
import { apiVersionText, kindText, meshMetadata, metadataText, singletonMetadata, specText } from './metadata.js';

export const adminNetworkPolicyApiVersion = `${policyApiGroup}/v1alpha1`;

const protocol = z
  .enum(['TCP', 'UDP', 'SCTP'])
  .default('TCP')
  .describe('Protocol. UDP and SCTP are accepted and match nothing, because Culvert carries TCP only.');

const port = z
  .strictObject({
    portNumber: z
      .strictObject({ protocol, port: portField.describe('Number of the port.') })
      .exactOptional()
      .describe('One port.')
      .register(fieldNotes, { example: '{ protocol: TCP, port: 5432 }' }),
    portRange: z
      .strictObject({ protocol, start: portField.describe('First port.'), end: portField.describe('Last port.') })
      .refine(({ start, end }) => start <= end, 'must not end at a lower port than it starts')
      .exactOptional()
      .describe('All ports from one to another.')
      .register(fieldNotes, { example: '{ protocol: TCP, start: 8000, end: 8100 }' }),
    namedPort: portNameField.exactOptional().describe('The port to which the destination gives this name.'),
  })
  .refine((fields) => Object.keys(fields).length === 1, 'must have exactly one of portNumber, portRange and namedPort')
  .register(fieldNotes, { example: '{ portNumber: { protocol: TCP, port: 5432 } }', part: 'AdminPolicyPort' });

const ports = z
  .array(port)
  .min(1, 'must not be empty: leave it out')
  .exactOptional()
  .describe('Ports, as alternatives. Without it every port.');

function rulesWith<const A extends readonly [string, ...string[]]>(actions: A) {
  const action = z
    .enum(actions)
    .describe('What happens to connections that match, in this direction. The first rule that matches decides.');
  const ingress = z
    .array(
      z
        .strictObject({
          name: ruleName,
          action,
          from: peersOf(clusterIngressPeer).describe('Sources, as alternatives.'),
          ports,
        })
        .register(fieldNotes, { example: '{ action: Deny, from: [{ namespaces: {} }] }' }),
    )
    .exactOptional()
    .describe('Rules about connections to the workloads.');
  const egress = z
    .array(
      z
        .strictObject({
          name: ruleName,
          action,
          to: peersOf(clusterEgressPeer).describe('Destinations, as alternatives.'),
          ports,
        })
        .superRefine(refuseNamedPorts('ports', 'namedPort'))
        .register(fieldNotes, { example: '{ action: Deny, to: [{ networks: ["10.0.0.0/8"] }] }' }),
    )
    .exactOptional()
    .describe('Rules about connections of the workloads.');
  return { ingress, egress };
}

const subject = clusterSubject.describe('Workloads that the policy is for.');

/** AdminNetworkPolicy, the older form of a ClusterNetworkPolicy of the tier Admin. Source: its v1alpha1 reference. */
export const adminNetworkPolicySchema = z
  .strictObject({
    apiVersion: z.literal(adminNetworkPolicyApiVersion).describe(apiVersionText),
    kind: z.literal('AdminNetworkPolicy').describe(kindText),
    metadata: meshMetadata.describe(metadataText),
    spec: z
      .strictObject({ priority: clusterPriority, subject, ...rulesWith(['Allow', 'Deny', 'Pass']) })
      .describe(specText)
      .register(fieldNotes, { example: '{ priority: 100, subject: { namespaces: {} } }' }),
  })
  .describe(
    'AdminNetworkPolicy of the Kubernetes network policy API, with the same meaning: the older form of a ClusterNetworkPolicy of the tier `Admin`.',
  );

/** BaselineAdminNetworkPolicy: what holds where no NetworkPolicy isolates a workload. There is one, named `default`. */
export const baselineAdminNetworkPolicySchema = z
  .strictObject({
    apiVersion: z.literal(adminNetworkPolicyApiVersion).describe(apiVersionText),
    kind: z.literal('BaselineAdminNetworkPolicy').describe(kindText),
    metadata: singletonMetadata('There is one in a cluster, and this is its name.'),
    spec: z
      .strictObject({ subject, ...rulesWith(['Allow', 'Deny']) })
      .describe(specText)
      .register(fieldNotes, { example: '{ subject: { namespaces: {} } }' }),
  })
  .describe(
    'BaselineAdminNetworkPolicy of the Kubernetes network policy API, with the same meaning: the older form of a ClusterNetworkPolicy of the tier `Baseline`.',
  );

export type AdminNetworkPolicy = z.output<typeof adminNetworkPolicySchema>;
export type BaselineAdminNetworkPolicy = z.output<typeof baselineAdminNetworkPolicySchema>;
export type AdminPolicyPort = z.output<typeof port>;
