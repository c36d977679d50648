import { z } from 'zod';
import { fieldNotes } from './field-notes.js';

const unitMs: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
const wholeDuration = /^(?:\d+(?:\.\d+)?(?:h|ms|m|s))+$/;

/**
 * In milliseconds, a duration as documents of Istio have it: `1h30m` or `0.5s`. Undefined for other texts, and for parts of a
 * millisecond.
 */
export function durationMs(text: string): number | undefined {
  if (text === '0') return 0;
  if (!wholeDuration.test(text)) return undefined;
  let sum = 0;
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g))
    sum += Number(value) * (unitMs[unit ?? ''] ?? 0);
  const ms = Math.round(sum);
  return Math.abs(ms - sum) < 1e-6 && Number.isSafeInteger(ms) ? ms : undefined;
}

/** A timer of Node waits for 2^31 - 1 ms at most. As settings have it. */
const mostMs = 24 * 86_400_000;

/** `atLeastMs`: 0 or 1, where 0 would mean something else. At most 24 days. */
export function durationField(example: string, atLeastMs: 0 | 1) {
  return z
    .string()
    .refine(
      (text) => isBetween(durationMs(text) ?? -1, atLeastMs, mostMs),
      `must be a time such as ${example}, of at least ${atLeastMs}ms and at most 576h`,
    )
    .register(fieldNotes, {
      example,
      type: 'time',
      limits: `hours, minutes, seconds and milliseconds, at least ${atLeastMs}ms, at most 576h`,
    });
}

/** What the kernel takes for probes (TCP_KEEPIDLE and TCP_KEEPINTVL of tcp(7)). */
const mostSeconds = 32_767;

/** Whole seconds, at least one, as many as the kernel takes. */
export function wholeSecondsField(example: string) {
  const isTaken = (ms: number): boolean => ms % 1000 === 0 && isBetween(ms / 1000, 1, mostSeconds);
  return z
    .string()
    .refine(
      (text) => isTaken(durationMs(text) ?? -1),
      `must be whole seconds such as ${example}, at least 1s and at most ${mostSeconds}s`,
    )
    .register(fieldNotes, {
      example,
      type: 'time',
      limits: `whole seconds, at least 1s, at most ${mostSeconds}s (9h6m7s)`,
    });
}

function isBetween(value: number, least: number, most: number): boolean {
  return value >= least && value <= most;
}

/** Of a text that the schema has taken. Throws Error otherwise. */
export function takenDurationMs(text: string): number {
  const ms = durationMs(text);
  if (ms === undefined) throw new Error(`the schema takes no duration ${text}`);
  return ms;
}
