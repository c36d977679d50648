import { isTrustDomain } from '../../../shared/identity.js';
import { usageError } from '../exit-codes.js';

/** Longest message of a change in the API, in characters. */
const maxMessage = 1024;
/** Leaves room for what commands put before a reason. */
const maxReason = 1000;

/** Reads the message of a change. Throws CliError (usage). */
export function readMessage(text: string): string {
  return within(text, maxMessage);
}

/** Reads a reason, which becomes part of a message. Throws CliError (usage). */
export function readReason(text: string): string {
  return within(text, maxReason);
}

/** Throws CliError (usage). */
export function readTrustDomain(text: string): string {
  if (isTrustDomain(text)) return text;
  throw usageError(
    `"${text}" is not a trust domain`,
    'use lower-case letters, digits, "-" and ".", such as culvert.local',
  );
}

function within(text: string, most: number): string {
  if (text.length <= most) return text;
  throw usageError(`the text is longer than ${most} characters`, 'shorten it');
}
