import type { ConnectionRate } from '../../../shared/policy/traffic-documents.js';

const nsPerSecond = 1_000_000_000;

/** A budget that fills at a rate, in nanoseconds: what one of it takes to come back, and all of it. */
export type Bucket = { readonly eachNs: bigint; readonly wholeNs: bigint };

/** Exact to half a nanosecond for each, which is less than a thousandth up to a million a second. */
export function bucketOf({ perSecond, burst }: ConnectionRate): Bucket {
  const eachNs = BigInt(Math.max(1, Math.round(nsPerSecond / perSecond)));
  return { eachNs, wholeNs: eachNs * BigInt(burst) };
}

/**
 * A token bucket in one number, so that threads can share it: the time at which it is full again. Takes one, and returns that
 * time as it is then; null: nothing is left. Both times are nanoseconds of a clock that never goes back. It is the generic cell
 * rate algorithm in its virtual scheduling form (ITU-T I.371, annex A). What was taken with other numbers of the same limit
 * counts for an empty bucket at most.
 */
export function nextDue(due: bigint, now: bigint, { eachNs, wholeNs }: Bucket): bigint | null {
  const latest = now + wholeNs;
  const from = due < now ? now : due > latest ? latest : due;
  const next = from + eachNs;
  return next > latest ? null : next;
}
