import net from 'node:net';
import { errorCodeOf } from '../connection/failure-reasons.js';
import type { TunnelStream } from '../engine/tunnel-stream.js';

/** One side of a relayed connection: an application's socket or a stream of a tunnel. */
export type RelayPeer = net.Socket | TunnelStream;

/** Sends RST to the peer. Bytes that were written and can leave at once go out first. */
export function resetPeer(end: RelayPeer): void {
  while (end.writableCorked > 0) end.uncork();
  if (end instanceof net.Socket) end.resetAndDestroy();
  else end.reset();
}

/** Why this end broke; null while it is open, and after both directions closed in order. */
export function breakageOf(end: RelayPeer): string | null {
  if (end instanceof net.Socket) {
    if (end.errored !== null) return errorCodeOf(end.errored) || end.errored.message;
  } else if (end.wasReset) return end.resetDetail;
  return !end.destroyed || (end.readableEnded && end.writableFinished) ? null : 'closed before its end';
}

/** Its `close` event was emitted, or will be in this tick. */
export function isGone(end: RelayPeer): boolean {
  return end instanceof net.Socket ? end.closed : end.isGone;
}
