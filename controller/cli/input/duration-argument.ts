import { parseDuration } from '../../../shared/config/units.js';
import { usageError } from '../exit-codes.js';

/** A time with a unit, such as `30s`, in milliseconds. Throws CliError (usage). */
export function readDuration(text: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined && ms > 0) return ms;
  throw usageError(`"${text}" is no duration`, 'write a number with a unit, such as 30s or 15m');
}
