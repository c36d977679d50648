import { parseDuration } from '../../../shared/config/units.js';
import { usageError } from '../exit-codes.js';

/** Reads a whole number from 1 up; `what` names it in the error. Throws CliError (usage). */
export function readCount(text: string, what: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw usageError(`"${text}" is not a ${what}`, 'use a whole number from 1');
}

/** A century: a later time than that is no time that a date can hold, or a typing error. */
const mostDays = 36_500;

/** Reads a duration with a unit, such as `30s`, as milliseconds. Throws CliError (usage). */
export function readDuration(text: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined && ms > mostDays * 86_400_000)
    throw usageError(`${text} is too long`, `use ${mostDays}d at most`);
  if (ms !== undefined && ms > 0) return ms;
  throw usageError(`"${text}" is not a duration`, 'write a number with a unit, such as 30s or 15m');
}
