import type { z } from 'zod';
import { badRequest } from './api-error.js';

/** Readers for what a request carries. Each throws CulvertError `BAD_REQUEST` that says what is wrong. */

export function readJson<Schema extends z.ZodType>(schema: Schema, body: Buffer): z.infer<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw badRequest('the body is not JSON in UTF-8', 'send a JSON object');
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(
    (issue) => `${issue.path.map(String).join('.') || 'body'}: ${issue.message}`,
  );
  throw badRequest(problems.join('; '), 'correct what is named and send it again');
}

/** The text where it could be the name of a user or node. */
export function nameOr<T>(text: string | undefined, otherwise: T): string | T {
  return text !== undefined && /^[a-z0-9][a-z0-9._@-]{0,62}$/.test(text) ? text : otherwise;
}

/** The name in a field of a body, for the audit log; null when there is none that could be one. */
export function nameIn(body: Buffer, field: string): string | null {
  try {
    const name = (JSON.parse(body.toString('utf8')) as Record<string, unknown> | null)?.[field];
    return typeof name === 'string' ? nameOr(name, null) : null;
  } catch {
    return null;
  }
}

/** A whole number from 1 up; `what` names it in the error. */
export function readCount(text: string, what: string): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (count >= 1) return count;
  throw badRequest(`"${text}" is not a ${what}`, 'use a whole number from 1');
}

/** A port; null when the query has none. */
export function readPort(text: string | null): number | null {
  if (text === null || text === '') return null;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return port;
  throw badRequest(`"${text}" is not a port`, 'use a number from 1 to 65535');
}

/** Milliseconds since the epoch; 0 when the query has none. */
export function readTimeMs(text: string | null): number {
  if (text === null || text === '') return 0;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw badRequest(`"${text}" is not a time`, 'give sinceMs as milliseconds since 1970, such as 1800000000000');
}
