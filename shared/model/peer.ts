import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { cidrField, namespaceField, namespacedNameField, selectorField, subdomainField } from './field-schemas.js';

/**
 * One entry of `from`, `to` and a segment's `members`. All fields that are written must match; the entries of a list
 * are alternatives. `segment` stands alone, `except` takes addresses out of `cidr`.
 */
export const peerSchema = z
  .strictObject({
    segment: subdomainField('databases').exactOptional(),
    namespace: namespaceField.exactOptional(),
    labels: selectorField.exactOptional(),
    serviceAccount: namespacedNameField('billing/api').exactOptional(),
    workload: namespacedNameField('billing/db').exactOptional(),
    node: subdomainField('host-a').exactOptional(),
    cidr: cidrField.exactOptional(),
    except: z.array(cidrField).min(1, 'must not be empty: leave it out').exactOptional(),
  })
  .superRefine((peer, context) => {
    const fields = Object.keys(peer);
    if (fields.length === 0) {
      context.addIssue({ code: 'custom', message: 'is empty: name at least one of segment, namespace, labels, …' });
    }
    if (peer.segment !== undefined && fields.length > 1) {
      const message = 'stands alone: put the other fields into the members of the segment';
      context.addIssue({ code: 'custom', path: ['segment'], message });
    }
    if (peer.except !== undefined && peer.cidr === undefined) {
      context.addIssue({ code: 'custom', path: ['except'], message: 'takes addresses out of cidr: add cidr' });
    }
  })
  .register(fieldNotes, { example: '{ serviceAccount: billing/api }' });

export type Peer = z.output<typeof peerSchema>;

/** `from` and `to` of a rule: leave the field out to match everybody. */
export const peerListField = z
  .array(peerSchema)
  .min(1, 'must not be empty: leave it out to match everybody')
  .register(fieldNotes, { example: '[{ serviceAccount: billing/api }]' });
