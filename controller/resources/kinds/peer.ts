import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { cidrField, namespaceField, namespacedNameField, selectorField, subdomainField } from './field-schemas.js';

const onlyTrue = z.literal(true).register(fieldNotes, { example: 'true' });

/** What only a member of the mesh has. */
const memberFields = ['namespace', 'namespaceLabels', 'labels', 'serviceAccount', 'workload', 'node'];

/**
 * One entry of `from`, `to` and a segment's `members`. All fields that are written must match; the entries of a list
 * are alternatives. `segment` and `service` stand alone, `except` takes addresses out of `cidr`. `external` is an
 * address that no workload, service or ServiceEntry names; `unauthenticated` a source that proved no identity.
 */
export const peerSchema = z
  .strictObject({
    segment: subdomainField('databases')
      .exactOptional()
      .describe('Every member of this Segment.')
      .register(fieldNotes, { limits: 'stands alone' }),
    namespace: namespaceField.exactOptional().describe('Workloads of this namespace.'),
    namespaceLabels: selectorField.exactOptional().describe('Workloads of namespaces with all of these labels.'),
    labels: selectorField.exactOptional().describe('Workloads with all of these labels.'),
    serviceAccount: namespacedNameField('billing/api').exactOptional().describe('Workloads of this service account.'),
    workload: namespacedNameField('billing/db').exactOptional().describe('This workload.'),
    service: namespacedNameField('billing/databases')
      .exactOptional()
      .describe('The workloads behind this Service, or the addresses of this ServiceEntry.')
      .register(fieldNotes, { limits: 'stands alone' }),
    node: subdomainField('host-a').exactOptional().describe('Workloads of this host.'),
    cidr: cidrField.exactOptional().describe('Addresses of this network.'),
    except: z
      .array(cidrField)
      .min(1, 'must not be empty: leave it out')
      .exactOptional()
      .describe('Addresses that `cidr` does not match.')
      .register(fieldNotes, { limits: 'only together with `cidr`' }),
    external: onlyTrue
      .exactOptional()
      .describe('Addresses that no workload, service or ServiceEntry names.')
      .register(fieldNotes, { limits: '`true`; not together with a field that only workloads have' }),
    unauthenticated: onlyTrue
      .exactOptional()
      .describe('A source that proved no identity.')
      .register(fieldNotes, { limits: '`true`; not together with a field that only workloads have' }),
  })
  .superRefine((peer, context) => {
    const fields = Object.keys(peer);
    if (fields.length === 0) {
      context.addIssue({ code: 'custom', message: 'is empty: name at least one of segment, namespace, labels, …' });
    }
    const refuse = (field: string, message: string) => {
      context.addIssue({ code: 'custom', path: [field], message });
    };
    if (peer.segment !== undefined && fields.length > 1) {
      refuse('segment', 'stands alone: put the other fields into the members of the segment');
    }
    if (peer.service !== undefined && fields.length > 1) {
      refuse('service', 'stands alone: it means the endpoints of the service, or the addresses of the ServiceEntry');
    }
    const known = fields.find((field) => memberFields.includes(field));
    if (peer.external !== undefined && known !== undefined) {
      refuse(known, 'contradicts external: who has one is a member of the mesh');
    }
    if (peer.unauthenticated !== undefined && known !== undefined) {
      refuse(known, 'contradicts unauthenticated: who proves no identity is known by the address only');
    }
    if (peer.except !== undefined && peer.cidr === undefined) {
      context.addIssue({ code: 'custom', path: ['except'], message: 'takes addresses out of cidr: add cidr' });
    }
  })
  .register(fieldNotes, { example: '{ serviceAccount: billing/api }', part: 'Peer' });

export type Peer = z.output<typeof peerSchema>;

/** `from` and `to` of a rule: leave the field out to match everybody. */
export const peerListField = z
  .array(peerSchema)
  .min(1, 'must not be empty: leave it out to match everybody')
  .register(fieldNotes, { example: '[{ serviceAccount: billing/api }]' });
