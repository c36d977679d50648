/** Leaves room for a hash within the 253-character limit of resource names. */
const maxLength = 200;
/** With more parts than this (mostly ports), a name is not readable. */
const maxParts = 5;

/**
 * Makes `learned-billing-db-5432` from `billing/db` and `5432`; equal parts give equal names. With `salt`, or when the
 * parts do not fit, a hash replaces the rest.
 */
export function learnedName(parts: readonly string[], salt = ''): string {
  const text = parts
    .slice(0, maxParts)
    .join('-')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '');
  const plain = text.startsWith('learned-') ? text : `learned-${text}`;
  const short = plain.slice(0, maxLength).replace(/-$/, '');
  const isWhole = parts.length <= maxParts && plain.length <= maxLength && salt === '';
  return isWhole ? short : `${short}-${hash(`${parts.join(' ')} ${salt}`)}`;
}

/** FNV-1a, 64 bits, in hexadecimal. Names only need to differ. */
function hash(text: string): string {
  let value = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text))
    value = BigInt.asUintN(64, (value ^ BigInt(byte)) * 0x100000001b3n);
  return value.toString(16).padStart(16, '0').slice(0, 12);
}
