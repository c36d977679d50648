import { usageError } from '../exit-codes.js';

/** A whole number from 1. Throws CliError (usage). */
export function readCount(text: string, what: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw usageError(`"${text}" is no ${what}`, 'use a whole number from 1');
}
