import { z } from 'zod';
import { parseDuration } from '../../../shared/config/units.js';
import type { OnChange } from '../../../shared/policy/snapshot.js';
import { fieldNotes } from './field-notes.js';

const longestDrainMs = 24 * 3_600_000;

/** Parses `terminate`, `drain 30s` or `keep`; undefined for other texts. A drain lasts from 1 ms to 24 hours. */
export function parseOnChange(text: string): OnChange | undefined {
  if (text === 'terminate' || text === 'keep') return { kind: text };
  const graceMs = parseDuration(/^drain +(\S+)$/.exec(text)?.[1] ?? '');
  if (graceMs === undefined || graceMs < 1 || graceMs > longestDrainMs) return undefined;
  return { kind: 'drain', graceMs };
}

/** What happens to open connections that a rule denies or no longer allows. */
export const onChangeField = z
  .string()
  .refine((text) => parseOnChange(text) !== undefined, 'must be terminate, keep, or drain with a time of up to 24h')
  .register(fieldNotes, {
    example: 'drain 30s',
    limits: '`terminate`, `keep`, or `drain` with a time from 1ms to 24h',
  });
