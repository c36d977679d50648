import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { labelsField, namespaceField } from './field-schemas.js';
import { culvertApiVersion } from './metadata.js';

const nameLabel = 'kubernetes.io/metadata.name';

/**
 * The labels of a namespace, for rules that select by them. A namespace needs no document: without one it has the label
 * with its own name that every namespace has. Kubernetes' own documents are taken as they are.
 */
export const namespaceSchema = z.strictObject({
  apiVersion: z.enum([culvertApiVersion, 'v1']),
  kind: z.literal('Namespace'),
  metadata: z
    .strictObject({
      name: namespaceField,
      labels: labelsField.exactOptional(),
      annotations: z.record(z.string(), z.string()).exactOptional(),
    })
    .superRefine(({ name, labels }, context) => {
      if (labels === undefined || (labels[nameLabel] ?? name) === name) return;
      context.addIssue({ code: 'custom', path: ['labels', nameLabel], message: `must be the name, "${name}"` });
    })
    .register(fieldNotes, { refusedFields: { namespace: 'a namespace is in no namespace: remove it' } }),
  spec: z.strictObject({}).default({}),
});

export type Namespace = z.output<typeof namespaceSchema>;
