import { parseIp } from '../../../shared/address.js';
import { usageError } from '../exit-codes.js';

/** `DST[:PORT]` of `culvert why`. The port is null when none is given. */
export type WhyTarget = { readonly destination: string; readonly port: string | null };

/**
 * Parses `billing/db:5432`, `service:billing/db`, `198.18.0.1:80`, `[fd00::1]:80` or `fd00::1`. Throws CliError (usage)
 * for an invalid port.
 */
export function parseWhyTarget(text: string): WhyTarget {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  if (bracketed === null && text.startsWith('[')) {
    throw usageError(`"${text}" is no address in brackets`, 'write it as [fd00::1] or [fd00::1]:80');
  }
  if (bracketed !== null) return { destination: bracketed[1] ?? '', port: checkedPort(bracketed[2]) };
  if (parseIp(text) !== undefined) return { destination: text, port: null };
  const colon = text.lastIndexOf(':');
  // In `service:billing/db` the colon does not precede a port.
  if (colon < 0 || text.indexOf('/', colon) >= 0) return { destination: text, port: null };
  return { destination: text.slice(0, colon), port: checkedPort(text.slice(colon + 1)) };
}

function checkedPort(text: string | undefined): string | null {
  if (text === undefined) return null;
  if (/^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65_535) return text;
  throw usageError(`"${text}" is not a port`, 'write DST:PORT with a number from 1 to 65535');
}
