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
 * A token bucket in one number, so that threads can share it: the time at which it is full again. Takes one where one is left:
 * `due` is that time as it is then. Both times are nanoseconds of a clock that never goes back. It is the generic cell rate
 * algorithm in its virtual scheduling form (ITU-T I.371, annex A). What was taken with other numbers of the same limit counts
 * for an empty bucket at most, from the first that asks on.
 */
export function takeOne(
  due: bigint,
  now: bigint,
  { eachNs, wholeNs }: Bucket,
): { readonly due: bigint; readonly isTaken: boolean } {
  const latest = now + wholeNs;
  if (due > latest) return { due: latest, isTaken: false };
  const next = (due < now ? now : due) + eachNs;
  return next > latest ? { due, isTaken: false } : { due: next, isTaken: true };
}

/** A budget of bytes: what one takes to come back, and for how long bytes may be ahead of the rate, in nanoseconds. */
export type ByteBucket = { readonly nsPerByte: number; readonly aheadNs: bigint };

/** Bytes that one read may bring, and a twentieth of a second, in which a timer is late, may be ahead of the rate. */
const ofOneRead = { leastAheadBytes: 65_536 };
const aheadSeconds = 0.05;

/** `leastAheadBytes`: with 0, the rate is kept also by what is less than one read. */
export function byteBucketOf(bytesPerSecond: number, { leastAheadBytes } = ofOneRead): ByteBucket {
  const nsPerByte = nsPerSecond / bytesPerSecond;
  const aheadBytes = Math.max(leastAheadBytes, bytesPerSecond * aheadSeconds);
  return { nsPerByte, aheadNs: BigInt(Math.round(aheadBytes * nsPerByte)) };
}

/**
 * Takes bytes that have been read already, so there is always room: `due` as it is then, and for how long they have to wait, 0 or
 * more, in nanoseconds. Those of several senders wait one after another, so all together keep the rate. A negative number gives
 * bytes back.
 */
export function dueAfter(
  due: bigint,
  now: bigint,
  { bytes, bucket }: { readonly bytes: number; readonly bucket: ByteBucket },
): { readonly due: bigint; readonly waitNs: bigint } {
  const next = (due < now ? now : due) + BigInt(Math.round(bytes * bucket.nsPerByte));
  const waitNs = next - now - bucket.aheadNs;
  return { due: next, waitNs: waitNs > 0n ? waitNs : 0n };
}
