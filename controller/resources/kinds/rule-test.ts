import { z } from 'zod';
import { parseHostPort, parseIp, type IpAddress } from '../../../shared/address.js';
import { fieldNotes } from './field-notes.js';
import { isNamespacedName, isPort } from './field-schemas.js';
import { instantField } from './instant.js';

/**
 * One side of a test. `word` says which kind of thing a name is; null: whatever is called so. Only the destination has a
 * port.
 */
export type TestParty =
  | { readonly word: 'workload' | 'service' | 'sa' | null; readonly name: string; readonly port: number | null }
  | { readonly ip: IpAddress; readonly port: number | null };

/** Reads `billing/api`, `sa:billing/api`, `203.0.113.7`, `billing/db:5432` or `[fd00::1]:443`; undefined: none of these. */
export function parseTestParty(text: string): TestParty | undefined {
  const address = parseHostPort(text);
  if (address !== undefined) return address;
  const ip = parseIp(text);
  if (ip !== undefined) return { ip, port: null };
  const match = /^(?:(workload|service|sa):)?([^:]+?)(?::([1-9]\d{0,4}))?$/.exec(text);
  const [name = '', port] = [match?.[2], match?.[3] === undefined ? null : Number(match[3])];
  if (!isNamespacedName(name) || (port !== null && !isPort(port))) return undefined;
  return { word: (match?.[1] ?? null) as 'workload' | 'service' | 'sa' | null, name, port };
}

/** What can decide: a tier of SegmentationRules, or the step of another kind of document. */
export const testTiers = [
  'platform',
  'team',
  'authorization',
  'networkPolicy',
  'baseline',
  'outbound',
  'default',
  'mtls',
] as const;

/** What must be decided of one connection once the rules are in force: in a rule's `tests`, and in a PolicyTest. */
export const ruleTestSchema = z
  .strictObject({
    from: z
      .string()
      .refine((text) => parseTestParty(text)?.port === null, 'must be NAMESPACE/NAME or an address')
      .register(fieldNotes, { example: 'billing/api' }),
    to: z
      .string()
      .refine((text) => parseTestParty(text) !== undefined, 'must be NAMESPACE/NAME:PORT or ADDRESS:PORT')
      .register(fieldNotes, { example: 'billing/db:5432' }),
    expect: z.enum(['allow', 'deny']),
    /** The rule that has to decide it: `db-only` or `SegmentationRule/db-only`; any when it is not written. */
    by: z
      .string()
      .min(1, 'must not be empty')
      .max(512)
      .exactOptional()
      .register(fieldNotes, { example: 'SegmentationRule/db-only' }),
    tier: z.enum(testTiers).exactOptional(),
    /** When the connection is made, for rules with a validity; when the test is run, unless written. */
    at: instantField.exactOptional(),
  })
  .register(fieldNotes, { example: '{ from: billing/api, to: "billing/db:5432", expect: allow }' });

export type RuleTest = z.output<typeof ruleTestSchema>;
