import net from 'node:net';
import { errorCodeOf } from '../connection/failure-reasons.js';
import type { TunnelStream } from '../engine/tunnel-stream.js';

/** One side of a relayed connection: an application's socket or a stream of a tunnel. */
export type RelayPeer = net.Socket | TunnelStream;

/** Sends RST to the peer. Bytes that were written and can leave at once go out first. */
export function resetPeer(peer: RelayPeer): void {
  while (peer.writableCorked > 0) peer.uncork();
  if (peer instanceof net.Socket) peer.resetAndDestroy();
  else peer.reset();
}

/** Why this side broke; null while it is open, and after both directions closed in order. */
export function breakageOf(peer: RelayPeer): string | null {
  if (peer instanceof net.Socket) {
    if (peer.errored !== null) return errorCodeOf(peer.errored) || peer.errored.message;
  } else if (peer.wasReset) return peer.resetDetail;
  return !peer.destroyed || (peer.readableEnded && peer.writableFinished) ? null : 'closed before its end';
}

/** Its `close` event was emitted, or will be in this tick. */
export function isGone(peer: RelayPeer): boolean {
  return peer instanceof net.Socket ? peer.closed : peer.isGone;
}
