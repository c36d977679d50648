import { z } from 'zod';
import { fieldNotes } from './field-notes.js';

const pattern = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/;

/**
 * Parses an RFC 3339 text with seconds and an offset into milliseconds since 1970. Undefined for other texts and for
 * days that do not exist (RFC 3339, section 5.7); leap seconds are not accepted.
 */
export function parseInstant(text: string): number | undefined {
  const match = pattern.exec(text);
  if (match === null) return undefined;
  const [year, month, day] = match.slice(1, 4).map(Number);
  const lastDay = new Date(Date.UTC(year ?? 0, month ?? 0, 0)).getUTCDate();
  const ms = Date.parse(text);
  return Number.isNaN(ms) || (day ?? 0) > lastDay ? undefined : ms;
}

/** An RFC 3339 text. It is stored as written; {@link parseInstant} reads it. */
export const instantField = z
  .string()
  .refine((text) => parseInstant(text) !== undefined, 'is not a time as RFC 3339 writes it, with seconds and an offset')
  .register(fieldNotes, {
    example: '2027-01-31T00:00:00Z',
    type: 'time (RFC 3339)',
    limits: 'with seconds and an offset',
    openApi: { pattern: pattern.source },
  });
