import { z } from 'zod';
import { parseHostPort, parseIp, type IpAddress } from '../../../shared/address.js';
import { fieldNotes } from './field-notes.js';
import { isNamespacedName, isPort } from './field-schemas.js';
import { instantField } from './instant.js';

/** One side of a test. `word` selects the kind of thing that the name is; null: any. Only destinations have a port. */
export type TestParty =
  | { readonly word: 'workload' | 'service' | 'sa' | null; readonly name: string; readonly port: number | null }
  | { readonly ip: IpAddress; readonly port: number | null };

/**
 * Parses `billing/api`, `sa:billing/api`, `203.0.113.7`, `billing/db:5432` or `[fd00::1]:443`; undefined for other
 * texts.
 */
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

/** What can decide: a tier of SegmentationRules, or the step of another kind. */
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

/**
 * The expected decision for one connection once the rules are in force; used in a rule's `tests` and in a PolicyTest.
 */
export const ruleTestSchema = z
  .strictObject({
    from: z
      .string()
      .refine((text) => parseTestParty(text)?.port === null, 'must be NAMESPACE/NAME or an address')
      .describe(
        'Source: a workload, service or account as NAMESPACE/NAME (`workload:`, `service:` or `sa:` before it chooses one), or an address.',
      )
      .register(fieldNotes, { example: 'billing/api', type: 'party' }),
    to: z
      .string()
      .refine((text) => parseTestParty(text) !== undefined, 'must be NAMESPACE/NAME:PORT or ADDRESS:PORT')
      .describe('Destination, in the same words, with a port.')
      .register(fieldNotes, { example: 'billing/db:5432', type: 'party with a port' }),
    expect: z.enum(['allow', 'deny']).describe('The verdict that is right.'),
    by: z
      .string()
      .min(1, 'must not be empty')
      .max(512)
      .exactOptional()
      .describe('The rule that has to decide: `db-only` or `SegmentationRule/db-only`. Without it any.')
      .register(fieldNotes, { example: 'SegmentationRule/db-only' }),
    tier: z
      .enum(testTiers)
      .exactOptional()
      .describe(
        'The step that has to decide: a tier of SegmentationRules, or another kind of document. Without it any.',
      ),
    at: instantField
      .exactOptional()
      .describe('When the connection is made, for rules with a validity. Without it now.'),
  })
  .register(fieldNotes, { example: '{ from: billing/api, to: "billing/db:5432", expect: allow }', part: 'Assertion' });

export type RuleTest = z.output<typeof ruleTestSchema>;
