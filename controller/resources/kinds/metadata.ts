import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { labelsField, namespaceField, subdomainField } from './field-schemas.js';

export const annotationsField = z
  .record(z.string(), z.string())
  .describe('Notes for people and tools. Culvert keeps them and gives them no meaning.')
  .register(fieldNotes, { example: '{ owner: payments }', type: 'texts by name' });
const name = subdomainField('api').describe('Name of the document, unique for its kind (and its namespace).');
const labels = labelsField.describe('Labels of the document. The labels of a Workload are what selectors select by.');

export const apiVersionText = 'Version of the schema.';
export const kindText = 'Kind of the document.';
export const metadataText = 'What the document is called.';
export const specText = 'What the document says.';

/** Metadata of a namespaced resource; the namespace defaults to `default`, as in Kubernetes. */
export const namespacedMetadata = z.strictObject({
  name,
  namespace: namespaceField.default('default').describe('Namespace of the document.'),
  labels: labels.exactOptional(),
  annotations: annotationsField.exactOptional(),
});

const ofWholeMesh = 'this kind belongs to the whole mesh: remove the namespace';

/** Metadata of a mesh-wide resource. */
export const meshMetadata = z
  .strictObject({ name, labels: labels.exactOptional(), annotations: annotationsField.exactOptional() })
  .register(fieldNotes, {
    refusedFields: { namespace: ofWholeMesh },
  });

/** Metadata of a kind of which there is one document, named `default`. `what` says so of the kind. */
export function singletonMetadata(what: string) {
  return z
    .strictObject({
      name: z.literal('default').describe(what),
      labels: labelsField.exactOptional().describe('Labels of the document, for people and tools.'),
      annotations: annotationsField.exactOptional(),
    })
    .describe(metadataText)
    .register(fieldNotes, { refusedFields: { namespace: ofWholeMesh } });
}

export const culvertApiVersion = 'culvert.dev/v1';
