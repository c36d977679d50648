import { z } from 'zod';
import { changeMessage } from '../change-answer.js';
import { readJson } from '../request-values.js';

const applySchema = z.strictObject({
  documents: z.string(),
  dryRun: z.boolean().default(false),
  message: changeMessage,
});

/** The body of `POST /v1/apply`. */
export type ApplyBody = z.infer<typeof applySchema>;

/** Errors: `BAD_REQUEST`. */
export function readApplyBody(body: Buffer): ApplyBody {
  return readJson(applySchema, body);
}
