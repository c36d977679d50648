import { z } from 'zod';
import { durationField, durationMs } from './duration-field.js';
import { fieldNotes } from './field-notes.js';
import { longestWarmupMs } from '../../../shared/policy/warmup.js';

const mostMinutes = longestWarmupMs / 60_000;

function warmupDuration() {
  return durationField('60s', 1).refine(
    (text) => (durationMs(text) ?? 0) <= longestWarmupMs,
    `must be at most ${mostMinutes}m: agents keep no longer when a workload became ready`,
  );
}

/** Istio's `warmup` of a load balancer, and its older name for the duration alone. */
export const warmupFields = {
  warmup: z
    .strictObject({
      duration: warmupDuration()
        .describe('For how long a workload gets a growing share after it became ready.')
        .register(fieldNotes, { example: '60s', type: 'time', limits: `at least 1ms, at most ${mostMinutes}m` }),
      minimumPercent: z
        .number()
        .min(0, 'must be from 0 to 100')
        .max(100, 'must be from 0 to 100')
        .exactOptional()
        .describe('The share that it begins with, of that of the others. Without it 10.')
        .register(fieldNotes, { example: '10' }),
      aggression: z
        .number()
        .min(1, 'must be at least 1')
        .max(100, 'must be at most 100')
        .exactOptional()
        .describe(
          'How the share grows: the part of the time that is over, to the power of 1 / aggression. Without it 1, in proportion to the time; larger: faster in the beginning.',
        )
        .register(fieldNotes, { example: '1' }),
    })
    .register(fieldNotes, { example: '{ duration: 60s }' })
    .exactOptional()
    .describe(
      'A workload that became ready gets fewer connections at first. Agents count from when they learn that it is ready; to those that start, all are warm.',
    ),
  warmupDurationSecs: warmupDuration()
    .exactOptional()
    .describe('The older name of `warmup.duration`.')
    .register(fieldNotes, { example: '60s', type: 'time', limits: `this or \`warmup\`, at most ${mostMinutes}m` }),
} as const;

export type Warmup = z.output<NonNullable<(typeof warmupFields)['warmup']>>;
