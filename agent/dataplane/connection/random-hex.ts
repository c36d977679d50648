import { randomFillSync } from 'node:crypto';

/** Bytes that are fetched at once: 256 trace ids. One call of OpenSSL costs as much as the rest of a record. */
const pool = Buffer.alloc(4096);
let used = pool.length;

/** As many random bytes (1 to 4096), none of them given out twice, in hex. For ids, not for secrets: they lie in memory before. */
export function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const start = used;
  used += bytes;
  return pool.toString('hex', start, used);
}
