import { z } from 'zod';
import { longestDelayMs } from '../../../shared/policy/traffic-documents.js';
import { durationField, durationMs } from './duration-field.js';
import { fieldNotes } from './field-notes.js';
import { instantField } from './instant.js';
import { percentageField } from './percentage-field.js';

const mostMinutes = longestDelayMs / 60_000;
const leastBytes = 1024;
const mostBytes = 100_000_000_000;
const ofHttp = 'it is about HTTP: of TCP the whole connection is refused, so leave it out';

const percentage = percentageField.describe('Share of the new connections of the route, drawn for each by itself.');

const expiresAt = instantField.exactOptional().describe('From then on there are none, by the clock of each agent.');
const percent = 'it is an older name of Istio: write percentage: { value: 10 }';

/** What Istio has as `fault` of an HTTP route, for connections, and `throttle`, which it does not have. */
export const routeFault = z
  .strictObject({
    delay: z
      .strictObject({
        percentage,
        fixedDelay: durationField('2s', 1)
          .refine((text) => (durationMs(text) ?? 0) <= longestDelayMs, `must be at most ${mostMinutes}m`)
          .describe('How long a connection waits before an endpoint is connected. `timeout` of the route counts it.')
          .register(fieldNotes, { example: '2s', type: 'time', limits: `at least 1ms, at most ${mostMinutes}m` }),
        expiresAt,
      })
      .exactOptional()
      .describe('These connections are connected later.')
      .register(fieldNotes, {
        example: '{ percentage: { value: 10 }, fixedDelay: 2s }',
        refusedFields: { percent, exponentialDelay: 'it is not served: write fixedDelay' },
      }),
    abort: z
      .strictObject({ percentage, expiresAt })
      .exactOptional()
      .describe('These connections are refused, with the reason `FAULT_INJECTED`.')
      .register(fieldNotes, {
        example: '{ percentage: { value: 5 } }',
        refusedFields: { percent, httpStatus: ofHttp, grpcStatus: ofHttp, http2Error: ofHttp },
      }),
    throttle: z
      .strictObject({
        percentage,
        bytesPerSecond: z
          .int('must be a whole number')
          .min(leastBytes, `must be at least ${leastBytes}`)
          .max(mostBytes, `must be at most ${mostBytes}`)
          .describe('For each of these connections, each way.')
          .register(fieldNotes, {
            example: '65536',
            openApi: { type: 'integer', minimum: leastBytes, maximum: mostBytes },
          }),
        expiresAt,
      })
      .exactOptional()
      .describe('These connections are slow.')
      .register(fieldNotes, { example: '{ percentage: { value: 20 }, bytesPerSecond: 65536 }' }),
  })
  .refine(
    (written) => Object.keys(written).length > 0,
    'is empty: write delay, abort or throttle, or leave out spec.tcp.fault',
  )
  .register(fieldNotes, {
    example: '{ delay: { percentage: { value: 10 }, fixedDelay: 2s } }',
    openApi: { minProperties: 1 },
  });

export type RouteFault = z.output<typeof routeFault>;
