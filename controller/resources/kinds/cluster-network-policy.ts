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
import { apiVersionText, kindText, meshMetadata, metadataText, specText } from './metadata.js';

export const clusterNetworkPolicyApiVersion = `${policyApiGroup}/v1alpha2`;

const range = z
  .strictObject({ start: portField.describe('First port.'), end: portField.describe('Last port.') })
  .refine(({ start, end }) => start < end, 'must end at a higher port than it starts')
  .register(fieldNotes, { example: '{ start: 8000, end: 8100 }' });

const destinationPort = z
  .strictObject({
    number: portField.exactOptional().describe('One port.'),
    range: range.exactOptional().describe('All ports from one to another.'),
  })
  .refine((fields) => Object.keys(fields).length === 1, 'must have exactly one of number and range')
  .register(fieldNotes, { example: '{ number: 5432 }' });

const ofProtocol = z
  .strictObject({ destinationPort: destinationPort.describe('Port of the destination.') })
  .register(fieldNotes, { example: '{ destinationPort: { number: 5432 } }' });

const protocol = z
  .strictObject({
    tcp: ofProtocol.exactOptional().describe('Connections to these ports.'),
    udp: ofProtocol.exactOptional().describe('Accepted, and matches nothing: Culvert carries TCP only.'),
    sctp: ofProtocol.exactOptional().describe('Accepted, and matches nothing: Culvert carries TCP only.'),
    destinationNamedPort: portNameField.exactOptional().describe('The port to which the destination gives this name.'),
  })
  .refine(
    (fields) => Object.keys(fields).length === 1,
    'must have exactly one of tcp, udp, sctp and destinationNamedPort',
  )
  .register(fieldNotes, { example: '{ tcp: { destinationPort: { number: 5432 } } }', part: 'ClusterPolicyProtocol' });

const action = z
  .enum(['Accept', 'Deny', 'Pass'])
  .describe(
    '`Accept` and `Deny` decide for this direction. `Pass` leaves the rest of the tier out and goes on with the next.',
  );
const protocols = z
  .array(protocol)
  .min(1, 'must not be empty: leave it out')
  .exactOptional()
  .describe('Ports, as alternatives. Without it every port.');

const ingressRule = z
  .strictObject({
    name: ruleName,
    action,
    from: peersOf(clusterIngressPeer).describe('Sources, as alternatives.'),
    protocols,
  })
  .register(fieldNotes, { example: '{ action: Deny, from: [{ namespaces: {} }] }' });

const egressRule = z
  .strictObject({
    name: ruleName,
    action,
    to: peersOf(clusterEgressPeer).describe('Destinations, as alternatives.'),
    protocols,
  })
  .superRefine(refuseNamedPorts('protocols', 'destinationNamedPort'))
  .register(fieldNotes, { example: '{ action: Deny, to: [{ networks: ["10.0.0.0/8"] }] }' });

/**
 * ClusterNetworkPolicy of the Kubernetes network policy API, with its semantics (see `ClusterJudgement`). Source: the
 * API reference of policy.networking.k8s.io/v1alpha2.
 */
export const clusterNetworkPolicySchema = z
  .strictObject({
    apiVersion: z.literal(clusterNetworkPolicyApiVersion).describe(apiVersionText),
    kind: z.literal('ClusterNetworkPolicy').describe(kindText),
    metadata: meshMetadata.describe(metadataText),
    spec: z
      .strictObject({
        tier: z
          .enum(['Admin', 'Baseline'])
          .describe('`Admin` is evaluated in the tier platform, `Baseline` in the tier baseline.'),
        priority: clusterPriority,
        subject: clusterSubject.describe('Workloads that the policy is for.'),
        ingress: z
          .array(ingressRule)
          .exactOptional()
          .describe('Rules about connections to the workloads. The first that matches decides.'),
        egress: z
          .array(egressRule)
          .exactOptional()
          .describe('Rules about connections of the workloads. The first that matches decides.'),
      })
      .describe(specText)
      .register(fieldNotes, { example: '{ tier: Admin, priority: 100, subject: { namespaces: {} } }' }),
  })
  .describe(
    'ClusterNetworkPolicy of the Kubernetes network policy API, with the same meaning. It comes after the SegmentationRules of its tier. Each direction has its own verdict, and a connection needs both.',
  );

export type ClusterNetworkPolicy = z.output<typeof clusterNetworkPolicySchema>;
export type ClusterProtocol = z.output<typeof protocol>;
