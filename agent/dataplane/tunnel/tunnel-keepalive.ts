import type net from 'node:net';
import type { Session } from '../engine/http2-engine.js';

/** Rounds of `timeoutMs` in which other bytes count as the answer to a PING. */
const patience = 3;

/**
 * Detects a peer that is gone without a FIN. Sends PING every `intervalMs`; when neither the answer nor any other byte
 * arrives within `timeoutMs`, calls `onDead` once. Other bytes count for some rounds, because a PING may wait behind a full
 * send queue, but not for ever: after some errors nghttp2 drops what arrives and Node keeps the connection. Both sides of a
 * tunnel run one; it ends with the session.
 */
export function keepTunnelAlive(init: {
  readonly session: Session;
  readonly socket: net.Socket;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly onDead: () => void;
}): void {
  const { session, socket, intervalMs, timeoutMs, onDead } = init;
  if (intervalMs === 0) return;
  let deadline: NodeJS.Timeout | undefined;
  let bytesSeen = 0;
  let rounds = 0;
  const check = (): void => {
    deadline = undefined;
    rounds += 1;
    if (socket.bytesRead === bytesSeen || rounds > patience) {
      onDead();
      return;
    }
    bytesSeen = socket.bytesRead;
    deadline = setTimeout(check, timeoutMs);
  };
  const beat = setInterval(() => {
    if (deadline !== undefined || session.destroyed) return;
    bytesSeen = socket.bytesRead;
    rounds = 0;
    deadline = setTimeout(check, timeoutMs);
    session.ping((error) => {
      if (error !== null) return;
      clearTimeout(deadline);
      deadline = undefined;
    });
  }, intervalMs);
  beat.unref();
  session.once('close', () => {
    clearInterval(beat);
    clearTimeout(deadline);
  });
}
