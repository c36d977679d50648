import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { networkField } from './field-schemas.js';
import { labelSelector } from './network-policy.js';

/** What the policies of the Kubernetes network policy API for a whole cluster have in common. */
export const policyApiGroup = 'policy.networking.k8s.io';

const namespacedPods = z
  .strictObject({
    namespaceSelector: labelSelector.describe('Namespaces with these labels. `{}` is all of them.'),
    podSelector: labelSelector.describe('Workloads in them with these labels. `{}` is all of them.'),
  })
  .register(fieldNotes, { example: '{ namespaceSelector: {}, podSelector: { matchLabels: { app: api } } }' });

const ends = {
  namespaces: labelSelector.exactOptional().describe('All workloads of namespaces with these labels.'),
  pods: namespacedPods.exactOptional().describe('Workloads by the labels of their namespace and their own.'),
};

/** Fails closed, as the API asks for: a peer without a known field is refused, and never taken for every peer. */
function hasOneField(fields: object): boolean {
  return Object.keys(fields).length === 1;
}

export const clusterSubject = z
  .strictObject(ends)
  .refine(hasOneField, 'must have exactly one of namespaces and pods')
  .register(fieldNotes, { example: '{ namespaces: {} }', part: 'ClusterPolicySubject' });

export const clusterIngressPeer = z
  .strictObject(ends)
  .refine(hasOneField, 'must have exactly one of namespaces and pods')
  .register(fieldNotes, { example: '{ namespaces: { matchLabels: { team: ops } } }', part: 'ClusterPolicySource' });

export const clusterEgressPeer = z
  .strictObject({
    ...ends,
    networks: z
      .array(networkField)
      .min(1, 'must not be empty')
      .exactOptional()
      .describe('Addresses of these networks, workloads among them.')
      .register(fieldNotes, { example: '["10.0.0.0/8"]' }),
  })
  .refine(hasOneField, 'must have exactly one of namespaces, pods and networks')
  .register(fieldNotes, {
    example: '{ networks: ["10.0.0.0/8"] }',
    part: 'ClusterPolicyDestination',
    refusedFields: {
      nodes: 'Culvert does not know the addresses of nodes: write them as networks',
      domainNames: 'Culvert carries connections by their address and resolves no names: write networks',
    },
  });

export const ruleName = z
  .string()
  .refine((text) => text.length <= 100, 'must not be longer than 100 characters')
  .exactOptional()
  .describe('Name of the rule, for people.')
  .register(fieldNotes, { example: 'from-ops' });

export const clusterPriority = z
  .number()
  .refine((n) => Number.isInteger(n) && n >= 0 && n <= 1000, 'must be a whole number from 0 to 1000')
  .describe('Order within the tier, lower first. Kubernetes leaves open which of two with the same priority decides.')
  .register(fieldNotes, { example: '100' });

export function peersOf<S extends z.ZodType>(peer: S) {
  return z.array(peer).min(1, 'must have at least one peer');
}

/**
 * Refuses names of ports in a rule about networks: what is in them names none. `ports`: the field with the rule's ports,
 * and the one in it that is a name.
 */
export function refuseNamedPorts<P extends string, N extends string>(ports: P, name: N) {
  type Rule = { readonly to: readonly { readonly networks?: unknown }[] } & {
    readonly [field in P]?: readonly { readonly [field in N]?: unknown }[];
  };
  return (rule: Rule, context: z.RefinementCtx): void => {
    if (!rule.to.some(({ networks }) => networks !== undefined)) return;
    for (const [index, port] of (rule[ports] ?? []).entries()) {
      if (port[name] === undefined) continue;
      const message = 'what is in networks has no named ports: write a number';
      context.addIssue({ code: 'custom', path: [ports, index], message });
    }
  };
}

export type ClusterSubject = z.output<typeof clusterSubject>;
export type ClusterEgressPeer = z.output<typeof clusterEgressPeer>;
