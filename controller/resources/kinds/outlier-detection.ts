import { z } from 'zod';
import { durationField } from './duration-field.js';
import { fieldNotes } from './field-notes.js';

const mostFailures = 1000;

function failuresField(example: string) {
  return z
    .int('must be a whole number')
    .min(0, 'must not be negative')
    .max(mostFailures, `must be at most ${mostFailures}`)
    .register(fieldNotes, { example, openApi: { type: 'integer', minimum: 0, maximum: mostFailures } });
}

function percentField(example: string) {
  return z
    .int('must be a whole number')
    .min(0, 'must be from 0 to 100')
    .max(100, 'must be from 0 to 100')
    .register(fieldNotes, { example, openApi: { type: 'integer', minimum: 0, maximum: 100 } });
}

/** Istio's `outlierDetection`, as it is about TCP. */
export const outlierDetectionField = z
  .strictObject({
    consecutive5xxErrors: failuresField('5')
      .exactOptional()
      .describe(
        'After how many failed connections in a row an endpoint is ejected: refused, not answered, failed in TLS, or reset before its first byte, which Istio counts as errors of this kind. Without it 5; 0: they do not count by this field.',
      ),
    consecutiveGatewayErrors: failuresField('3')
      .exactOptional()
      .describe('The same failures: the smaller of the two numbers counts. Without it, and as 0, it does not.'),
    splitExternalLocalOriginErrors: z
      .boolean()
      .exactOptional()
      .describe('`true`: `consecutiveLocalOriginFailures` counts in place of the two.')
      .register(fieldNotes, { example: 'true' }),
    consecutiveLocalOriginFailures: failuresField('5')
      .exactOptional()
      .describe('With `splitExternalLocalOriginErrors` alone: after how many failures. Without it 5; 0: none ejects.'),
    interval: durationField('10s', 1)
      .exactOptional()
      .describe('The healthy time that makes the next penalty of an endpoint shorter by one step. Without it 10s.'),
    baseEjectionTime: durationField('30s', 1)
      .exactOptional()
      .describe(
        'For how long an endpoint is ejected the first time; twice, three times as long when it fails again, up to five minutes, and up to a tenth longer by chance. Without it 30s.',
      ),
    maxEjectionPercent: percentField('50')
      .exactOptional()
      .describe(
        'The largest share of the endpoints that may be ejected at once, and at least one endpoint; 0: none. Without it 10.',
      ),
    minHealthPercent: percentField('30')
      .exactOptional()
      .describe('Where a smaller share of the endpoints is left, connections go to all of them again. Without it 0.'),
  })
  .superRefine(({ consecutiveLocalOriginFailures, splitExternalLocalOriginErrors }, context) => {
    if (consecutiveLocalOriginFailures === undefined || splitExternalLocalOriginErrors === true) return;
    const message = 'counts only with splitExternalLocalOriginErrors: true';
    context.addIssue({ code: 'custom', path: ['consecutiveLocalOriginFailures'], message });
  })
  .register(fieldNotes, {
    example: '{ consecutive5xxErrors: 5, baseEjectionTime: 30s }',
    refusedFields: { consecutiveErrors: 'it is the older name of consecutive5xxErrors: write that' },
  });

export type OutlierDetection = z.output<typeof outlierDetectionField>;
