import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { labelsField, namespaceField, subdomainField } from './field-schemas.js';

const annotations = z.record(z.string(), z.string()).register(fieldNotes, { example: '{ owner: payments }' });
const name = subdomainField('api');

/** Metadata of a resource that lives in a namespace; `default` when none is written, as in Kubernetes. */
export const namespacedMetadata = z.strictObject({
  name,
  namespace: namespaceField.default('default'),
  labels: labelsField.exactOptional(),
  annotations: annotations.exactOptional(),
});

/** Metadata of a resource of the whole mesh. */
export const meshMetadata = z
  .strictObject({ name, labels: labelsField.exactOptional(), annotations: annotations.exactOptional() })
  .register(fieldNotes, {
    refusedFields: { namespace: 'this kind belongs to the whole mesh: remove the namespace' },
  });

export const culvertApiVersion = 'culvert.dev/v1';
