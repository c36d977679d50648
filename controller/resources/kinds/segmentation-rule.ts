import { z } from 'zod';
import { tiers, type PortRange } from '../../../shared/policy/snapshot.js';
import { fieldNotes } from './field-notes.js';
import { isPort, isPortName } from './field-schemas.js';
import { instantField, parseInstant } from './instant.js';
import { apiVersionText, culvertApiVersion, kindText, meshMetadata, metadataText, specText } from './metadata.js';
import { onChangeField } from './on-change.js';
import { peerListField } from './peer.js';
import { ruleTestSchema } from './rule-test.js';

const portProblem = 'must be a port from 1 to 65535 or a range such as "8000-8100", or the name of a port';

/** A port, `"first-last"`, or the name of a port. */
const portsEntry = z
  .union([z.number(), z.string()], { error: portProblem })
  .refine((value) => parsePortRange(value) !== undefined || isPortName(String(value)), portProblem)
  .register(fieldNotes, { example: '5432', type: 'port, range or port name' });

/** Inclusive; undefined when the value is neither a port nor an ascending range. */
export function parsePortRange(value: number | string): PortRange | undefined {
  const match = /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(String(value));
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  return isPort(first) && isPort(last) && first <= last ? [first, last] : undefined;
}

/** The default priority. Lower is evaluated first. */
const defaultPriority = 1000;

/** Who may dial which workloads, on which ports. */
export const segmentationRuleSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('SegmentationRule').describe(kindText),
    metadata: meshMetadata.describe(metadataText),
    spec: z
      .strictObject({
        tier: z
          .enum(tiers)
          .default('team')
          .describe('When the rule is asked: `platform` first, then `team`, then policies, then `baseline`.'),
        priority: z
          .number()
          .refine((n) => Number.isInteger(n) && n >= 0 && n <= 1_000_000, 'must be a whole number from 0 to 1000000')
          .default(defaultPriority)
          .describe('Order within the tier, lower first. The first rule that matches decides.')
          .register(fieldNotes, { example: '200', openApi: { type: 'integer', minimum: 0, maximum: 1_000_000 } }),
        action: z
          .enum(['allow', 'deny', 'pass'])
          .describe('`allow` and `deny` decide. `pass` leaves the rest of the tier out and goes on with the next.'),
        mode: z
          .enum(['enforce', 'audit', 'off'])
          .default('enforce')
          .describe('`audit` refuses nothing and counts what the rule would have refused. `off` does nothing.'),
        from: peerListField.exactOptional().describe('Sources, as alternatives. Without it every source.'),
        to: peerListField.exactOptional().describe('Destinations, as alternatives. Without it every destination.'),
        ports: z
          .array(portsEntry)
          .min(1, 'must not be empty: leave it out to match every port')
          .exactOptional()
          .describe(
            'Ports of the destination, ranges of them, and names that the destination gives to its ports; behind a Service the ports of its workloads. Without it every port.',
          )
          .register(fieldNotes, { example: '[5432, "8000-8100", http]' }),
        onChange: onChangeField
          .exactOptional()
          .describe(
            'What happens to open connections that the rule forbids, or no longer allows. Without it `terminate`: both ends are reset.',
          ),
        rollout: z
          .number()
          .refine((n) => Number.isInteger(n) && n >= 0 && n <= 100, 'must be a whole number from 0 to 100, in per cent')
          .exactOptional()
          .describe(
            'Enforces the rule for this per cent of its sources, always the same ones, and audits it for the others. Without it 100.',
          )
          .register(fieldNotes, {
            example: '10',
            type: 'number (per cent)',
            openApi: { type: 'integer', minimum: 0, maximum: 100 },
          }),
        validFrom: instantField.exactOptional().describe('The rule has no effect before this time.'),
        expiresAt: instantField
          .exactOptional()
          .describe('The rule has no effect from this time on.')
          .register(fieldNotes, { limits: 'later than `validFrom`; with seconds and an offset' }),
        owner: z.string().max(1024).exactOptional().describe('Who to ask about the rule. `culvert why` shows it.'),
        reason: z.string().max(1024).exactOptional().describe('Why there is such a rule. `culvert why` shows it.'),
        tests: z
          .array(ruleTestSchema)
          .min(1, 'must not be empty: leave it out')
          .exactOptional()
          .describe(
            'What must be decided of these connections. A change after which one fails is refused as a whole; one of the tier `platform` or about the whole mesh only if the rule is of that tier too.',
          )
          .register(fieldNotes, { example: '[{ from: billing/api, to: "billing/db:5432", expect: allow }]' }),
      })
      .describe(specText)
      .superRefine(({ validFrom, expiresAt }, context) => {
        if (validFrom === undefined || expiresAt === undefined) return;
        if ((parseInstant(expiresAt) ?? 0) > (parseInstant(validFrom) ?? 0)) return;
        context.addIssue({ code: 'custom', path: ['expiresAt'], message: 'must be later than validFrom' });
      })
      .register(fieldNotes, {
        openApi: {
          rules: {
            'expiresAt must be later than validFrom':
              '!has(self.validFrom) || !has(self.expiresAt) || timestamp(self.expiresAt) > timestamp(self.validFrom)',
          },
        },
      }),
  })
  .describe('Who may connect to whom, on which ports.');

export type SegmentationRule = z.output<typeof segmentationRuleSchema>;
