import { z } from 'zod';
import { fieldNotes } from './field-notes.js';
import { culvertApiVersion, meshMetadata } from './metadata.js';
import { peerSchema } from './peer.js';

/** A named set of peers. Segments may contain segments, never themselves. */
export const segmentSchema = z.strictObject({
  apiVersion: z.literal(culvertApiVersion),
  kind: z.literal('Segment'),
  metadata: meshMetadata,
  spec: z.strictObject({
    members: z
      .array(peerSchema)
      .min(1, 'must have at least one member')
      .register(fieldNotes, { example: '[{ namespace: billing, labels: { app: db } }]' }),
  }),
});

export type Segment = z.output<typeof segmentSchema>;
