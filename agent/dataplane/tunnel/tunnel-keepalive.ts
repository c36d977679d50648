import type net from 'node:net';
import type { Session } from '../engine/http2-engine.js';

/** Rounds of `timeoutMs` in which other bytes stand in for the answer to a PING. */
const patience = 3;

/**
 * Notices a peer that is gone without a word: PING every `intervalMs`; when neither the answer nor any other byte came
 * for `timeoutMs`, `onDead` is called, once. Other bytes count for some rounds, because a PING may wait behind a full
 * send queue; not for ever, because after some errors nghttp2 only swallows what comes and Node keeps the connection. Both sides of a tunnel run one. It ends with the session.
 */
export function keepTunnelAlive(options: {
  readonly session: Session;
  readonly socket: net.Socket;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly onDead: () => void;
}): void {
  const { session, socket, intervalMs, timeoutMs, onDead } = options;
  if (intervalMs === 0) return;
  let deadline: NodeJS.Timeout | undefined;
  let bytesSeen = 0;
  let rounds = 0;
  const judge = (): void => {
    deadline = undefined;
    rounds += 1;
    if (socket.bytesRead === bytesSeen || rounds > patience) {
      onDead();
      return;
    }
    bytesSeen = socket.bytesRead;
    deadline = setTimeout(judge, timeoutMs);
  };
  const beat = setInterval(() => {
    if (deadline !== undefined || session.destroyed) return;
    bytesSeen = socket.bytesRead;
    rounds = 0;
    deadline = setTimeout(judge, timeoutMs);
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
