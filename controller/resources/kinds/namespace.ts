import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { labelsField, namespaceField } from './field-schemas.js';
import { annotationsField, apiVersionText, culvertApiVersion, kindText, metadataText } from './metadata.js';

const nameLabel = 'kubernetes.io/metadata.name';

/**
 * The labels of a namespace, for rules that select by them. Documents are optional: every namespace has the label with
 * its own name. Kubernetes' own Namespace documents are accepted unchanged.
 */
export const namespaceSchema = z
  .strictObject({
    apiVersion: z.enum([culvertApiVersion, 'v1']).describe(apiVersionText),
    kind: z.literal('Namespace').describe(kindText),
    metadata: z
      .strictObject({
        name: namespaceField.describe('Name of the namespace.'),
        labels: labelsField
          .exactOptional()
          .describe(
            'Labels of the namespace, for `namespaceLabels` and namespace selectors. `kubernetes.io/metadata.name` is there without being written, and must be the name when it is.',
          ),
        annotations: annotationsField.exactOptional(),
      })
      .describe(metadataText)
      .superRefine(({ name, labels }, context) => {
        if (labels === undefined || (labels[nameLabel] ?? name) === name) return;
        context.addIssue({ code: 'custom', path: ['labels', nameLabel], message: `must be the name, "${name}"` });
      })
      .register(fieldNotes, { refusedFields: { namespace: 'a namespace is in no namespace: remove it' } }),
    spec: z.strictObject({}).default({}).describe('Empty: a namespace has nothing but its metadata.'),
  })
  .describe(
    'Labels of a namespace, for rules that select by them. A namespace needs no document; documents of Kubernetes are taken as they are.',
  );

export type Namespace = z.output<typeof namespaceSchema>;
