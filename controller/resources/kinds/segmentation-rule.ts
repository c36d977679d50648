import { z } from 'zod';
import { tiers, type PortRange } from '../../../shared/policy/snapshot.js';
import { fieldNotes } from './field-notes.js';
import { isPort } from './field-schemas.js';
import { instantField, parseInstant } from './instant.js';
import { culvertApiVersion, meshMetadata } from './metadata.js';
import { onChangeField } from './on-change.js';
import { peerListField } from './peer.js';
import { ruleTestSchema } from './rule-test.js';

const portProblem = 'must be a port from 1 to 65535 or a range such as "8000-8100"';

/** A port, or `"first-last"`. */
const portsEntry = z
  .union([z.number(), z.string()], { error: portProblem })
  .refine((value) => parsePortRange(value) !== undefined, portProblem)
  .register(fieldNotes, { example: '5432' });

/** Inclusive; undefined when it is neither a port nor a range that counts upwards. */
export function parsePortRange(value: number | string): PortRange | undefined {
  const match = /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(String(value));
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  return isPort(first) && isPort(last) && first <= last ? [first, last] : undefined;
}

/** The priority of a rule that names none. Lower is first. */
export const defaultPriority = 1000;

/** Who may dial whom on which ports (DESIGN §6). */
export const segmentationRuleSchema = z.strictObject({
  apiVersion: z.literal(culvertApiVersion),
  kind: z.literal('SegmentationRule'),
  metadata: meshMetadata,
  spec: z
    .strictObject({
      tier: z.enum(tiers).default('team'),
      priority: z
        .number()
        .refine((n) => Number.isInteger(n) && n >= 0 && n <= 1_000_000, 'must be a whole number from 0 to 1000000')
        .default(defaultPriority)
        .register(fieldNotes, { example: '200' }),
      action: z.enum(['allow', 'deny', 'pass']),
      mode: z.enum(['enforce', 'audit', 'off']).default('enforce'),
      from: peerListField.exactOptional(),
      to: peerListField.exactOptional(),
      ports: z
        .array(portsEntry)
        .min(1, 'must not be empty: leave it out to match every port')
        .exactOptional()
        .register(fieldNotes, { example: '[5432, "8000-8100"]' }),
      /** What happens to the open connections that the rule forbids, or no longer allows; `terminate` unless written. */
      onChange: onChangeField.exactOptional(),
      rollout: z
        .number()
        .refine((n) => Number.isInteger(n) && n >= 0 && n <= 100, 'must be a whole number from 0 to 100, in per cent')
        .exactOptional()
        .register(fieldNotes, { example: '10' }),
      validFrom: instantField.exactOptional(),
      expiresAt: instantField.exactOptional(),
      owner: z.string().max(1024).exactOptional(),
      reason: z.string().max(1024).exactOptional(),
      tests: z
        .array(ruleTestSchema)
        .min(1, 'must not be empty: leave it out')
        .exactOptional()
        .register(fieldNotes, { example: '[{ from: billing/api, to: "billing/db:5432", expect: allow }]' }),
    })
    .superRefine(({ validFrom, expiresAt }, context) => {
      if (validFrom === undefined || expiresAt === undefined) return;
      if ((parseInstant(expiresAt) ?? 0) > (parseInstant(validFrom) ?? 0)) return;
      context.addIssue({ code: 'custom', path: ['expiresAt'], message: 'must be later than validFrom' });
    }),
});

export type SegmentationRule = z.output<typeof segmentationRuleSchema>;
