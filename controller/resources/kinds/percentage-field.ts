import { z } from 'zod';
import { fieldNotes } from './field-notes.js';

/** A share as Istio writes it. */
export const percentageField = z
  .strictObject({
    value: z
      .number()
      .min(0, 'must be from 0 to 100')
      .max(100, 'must be from 0 to 100')
      .describe('From 0 to 100, also parts of one.')
      .register(fieldNotes, { example: '10' }),
  })
  .register(fieldNotes, { example: '{ value: 10 }' });
