import type { z } from 'zod';
import { badRequest } from './api-error.js';

/** Reads a JSON body. Throws CulvertError `BAD_REQUEST` with everything that is wrong. */
export function readJson<Schema extends z.ZodType>(schema: Schema, body: Buffer): z.infer<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw badRequest('the body is no JSON in UTF-8', 'send a JSON object');
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    (issue) => `${issue.path.map(String).join('.') || 'body'}: ${issue.message}`,
  );
  throw badRequest(problems.join('; '), 'correct the fields of the body');
}
