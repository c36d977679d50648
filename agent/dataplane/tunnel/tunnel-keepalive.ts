import type net from 'node:net';
import type { Session } from '../engine/http2-engine.js';

/** How long {@link TunnelPulse.hurry} lasts. */
const hurryMs = 30_000;

/** Whether the other agent answers, for a connection that has to know sooner than the tunnel does. */
export interface TunnelPulse {
  /** For half a minute PINGs go out at least this often; in vain where they are off. */
  hurry(everyMs: number): void;
  /** How long a PING has waited since the last byte that came was noticed; 0 when none waits. To be read every few seconds. */
  readonly unansweredMs: number;
}

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
}): TunnelPulse {
  const { session, socket, intervalMs, timeoutMs, onDead } = init;
  if (intervalMs === 0) return { hurry: () => {}, unansweredMs: 0 };
  let everyMs = intervalMs;
  let hurriesUntilMs = 0;
  /** When the PING was sent, or a byte that came after it was noticed. */
  let heardAtMs = 0;
  let heardBytes = 0;
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
  const ping = (): void => {
    if (everyMs < intervalMs && performance.now() > hurriesUntilMs) beatEvery(intervalMs);
    if (deadline !== undefined || session.destroyed) return;
    bytesSeen = socket.bytesRead;
    heardBytes = bytesSeen;
    heardAtMs = performance.now();
    rounds = 0;
    deadline = setTimeout(check, timeoutMs);
    session.ping((error) => {
      if (error !== null) return;
      clearTimeout(deadline);
      deadline = undefined;
    });
  };
  let beat = setInterval(ping, intervalMs).unref();
  const beatEvery = (ms: number): void => {
    clearInterval(beat);
    everyMs = ms;
    beat = setInterval(ping, ms).unref();
  };
  session.once('close', () => {
    clearInterval(beat);
    clearTimeout(deadline);
  });
  return {
    hurry: (ms) => {
      hurriesUntilMs = performance.now() + hurryMs;
      if (ms < everyMs && !session.destroyed) beatEvery(ms);
    },
    get unansweredMs() {
      if (deadline === undefined) return 0;
      if (socket.bytesRead !== heardBytes) {
        heardBytes = socket.bytesRead;
        heardAtMs = performance.now();
      }
      return performance.now() - heardAtMs;
    },
  };
}
