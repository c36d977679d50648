import { z } from 'zod';
import { parseHostPort, parseIp, type IpAddress } from '../address.js';
import { fieldNotes } from './field-notes.js';
import { isNamespacedName, isPort } from './field-schemas.js';

/** One side of a test: a workload, service or service account (`namespace/name`), or an address. */
export type TestParty = { readonly name: string } | { readonly ip: IpAddress };

/** Whom a test means by `billing/api`, `203.0.113.7` or `fd00::1`; undefined when it is none of these. */
export function parseTestParty(text: string): TestParty | undefined {
  const ip = parseIp(text);
  if (ip !== undefined) return { ip };
  return isNamespacedName(text) ? { name: text } : undefined;
}

/** Reads `billing/db:5432`, `203.0.113.7:443` or `[fd00::1]:443`. */
export function parseTestTarget(text: string): { readonly party: TestParty; readonly port: number } | undefined {
  const address = parseHostPort(text);
  if (address !== undefined) return { party: { ip: address.ip }, port: address.port };
  const match = /^([^:]+):([1-9]\d{0,4})$/.exec(text);
  const [name, port] = [match?.[1] ?? '', Number(match?.[2])];
  return isNamespacedName(name) && isPort(port) ? { party: { name }, port } : undefined;
}

/** What must be decided of one connection once a rule is in force. It is asked at apply; a failing one refuses. */
export const ruleTestSchema = z
  .strictObject({
    from: z
      .string()
      .refine((text) => parseTestParty(text) !== undefined, 'must be NAMESPACE/NAME or an address')
      .register(fieldNotes, { example: 'billing/api' }),
    to: z
      .string()
      .refine((text) => parseTestTarget(text) !== undefined, 'must be NAMESPACE/NAME:PORT or ADDRESS:PORT')
      .register(fieldNotes, { example: 'billing/db:5432' }),
    expect: z.enum(['allow', 'deny']),
    /** Which rule has to decide it, such as `SegmentationRule/db-only`; any when it is not written. */
    rule: z.string().min(1, 'must not be empty').max(512).exactOptional(),
  })
  .register(fieldNotes, { example: '{ from: billing/api, to: "billing/db:5432", expect: allow }' });

export type RuleTest = z.output<typeof ruleTestSchema>;
