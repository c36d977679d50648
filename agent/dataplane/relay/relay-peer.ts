import net from 'node:net';
import { resetSocket } from '../../native/addon.js';
import { errorBehindEnd } from '../../native/tcp-life.js';
import { errorCodeOf } from '../connection/failure-reasons.js';
import type { TunnelStream } from '../engine/tunnel-stream.js';

/** One side of a relayed connection: an application's socket or a stream of a tunnel. */
export type RelayPeer = net.Socket | TunnelStream;

/** Why a side broke. */
export type Breakage = {
  readonly detail: string;
  /** Its application sent RST. Otherwise the path broke, and the application may know nothing of it. */
  readonly isReset: boolean;
};

/** Sends RST to the peer. Bytes that were written and can leave at once go out first. */
export function resetPeer(peer: RelayPeer): void {
  while (peer.writableCorked > 0) peer.uncork();
  if (peer instanceof net.Socket) resetSocket(peer);
  else peer.reset();
}

/** Why this side broke; null while it is open, and after both directions closed in order. */
export function breakageOf(peer: RelayPeer): Breakage | null {
  if (peer instanceof net.Socket) {
    if (peer.errored !== null) return socketBreakage(errorCodeOf(peer.errored) || peer.errored.message);
  } else if (peer.wasReset) return { detail: peer.resetDetail, isReset: !peer.isTunnelLost };
  if (!peer.destroyed || (peer.readableEnded && peer.writableFinished)) return null;
  return { detail: 'closed before its end', isReset: false };
}

/**
 * What `end` of this side really was. `hasEnded`: it closed its direction. Its RST may have arrived behind that, or in place
 * of it: then Node shows only an end.
 */
export function endOf(peer: RelayPeer): { readonly hasEnded: boolean; readonly breakage: Breakage | null } {
  const breakage = breakageOf(peer);
  if (breakage !== null || !(peer instanceof net.Socket)) return { hasEnded: breakage === null, breakage };
  const error = errorBehindEnd(peer);
  if (error === null) return { hasEnded: true, breakage };
  // The kernel calls a RST that follows a FIN by this name (`tcp_reset` in net/ipv4/tcp_input.c).
  return { hasEnded: error === 'EPIPE', breakage: socketBreakage(error) };
}

/** Its `close` event was emitted, or will be in this tick. */
export function isGone(peer: RelayPeer): boolean {
  return peer instanceof net.Socket ? peer.closed : peer.isGone;
}

/** A RST shows as ECONNRESET when we read, and as EPIPE when we write after it. */
function socketBreakage(detail: string): Breakage {
  return { detail, isReset: detail === 'ECONNRESET' || detail === 'EPIPE' };
}
