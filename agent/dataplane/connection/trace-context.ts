import { randomFillSync } from 'node:crypto';

/** Random bytes fetched at once, enough for 256 trace ids. One call of OpenSSL costs as much as the rest of a record. */
const pool = Buffer.alloc(4096);
let used = pool.length;

/** Each byte is given out once. For ids and not for secrets: the bytes lie in memory before they are used. */
function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const start = used;
  used += bytes;
  return pool.toString('hex', start, used);
}

/** 32 hex digits. */
export function newTraceId(): string {
  return randomHex(16);
}

/**
 * The `traceparent` header of a connection (W3C Trace Context, section 3.2). A connection is one span, and always sampled:
 * each one has a record.
 */
export function traceparentOf(traceId: string): string {
  return `00-${traceId}-${randomHex(8)}-01`;
}

/** The trace id of a `traceparent` header, or undefined when the header is not valid. */
export function traceIdOf(traceparent: string | undefined): string | undefined {
  const match = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-|$)/.exec(traceparent ?? '');
  const traceId = match?.[1];
  return traceId === undefined || /^0+$/.test(traceId) ? undefined : traceId;
}
