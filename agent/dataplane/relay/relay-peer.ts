import net from 'node:net';
import type { TunnelStream } from '../engine/tunnel-stream.js';

/** One side of a relayed connection: an application's socket, or a stream of a tunnel. */
export type RelayPeer = net.Socket | TunnelStream;

/** RST to whoever is behind it; bytes that were handed over and not sent yet go out first where that is possible at once. */
export function resetPeer(end: RelayPeer): void {
  while (end.writableCorked > 0) end.uncork();
  if (end instanceof net.Socket) end.resetAndDestroy();
  else end.reset();
}

/** Why this end broke, or null while it has not: both of its directions were closed in order, or it is still open. */
export function breakageOf(end: RelayPeer): string | null {
  if (end instanceof net.Socket) {
    if (end.errored !== null) return textOf(end.errored);
  } else if (end.wasReset) return end.resetDetail;
  return !end.destroyed || (end.readableEnded && end.writableFinished) ? null : 'closed before its end';
}

function textOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

/** Its `close` event has been, or is on its way in this tick. */
export function isGone(end: RelayPeer): boolean {
  return end instanceof net.Socket ? end.closed : end.isGone;
}
