import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { apiVersionText, culvertApiVersion, kindText, meshMetadata, metadataText, specText } from './metadata.js';
import { peerSchema } from './peer.js';

/** A named set of peers. Segments may contain other segments, but never themselves. */
export const segmentSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('Segment').describe(kindText),
    metadata: meshMetadata.describe(metadataText),
    spec: z
      .strictObject({
        members: z
          .array(peerSchema)
          .min(1, 'must have at least one member')
          .describe('What belongs to the segment. The entries are alternatives.')
          .register(fieldNotes, { example: '[{ namespace: billing, labels: { app: db } }]' }),
      })
      .describe(specText),
  })
  .describe(
    'A named set of peers, for `from` and `to` of rules. Segments may contain segments, however deep, but never themselves.',
  );

export type Segment = z.output<typeof segmentSchema>;
