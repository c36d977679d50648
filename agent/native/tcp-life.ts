import type { Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { acceptedFd, callAddon } from './addon.js';

/** How the kernel asks whether the other side of a connection is still there (tcp(7)). */
export type Probing = {
  /** Time without a segment until the first probe: whole seconds, 1 to 32767. */
  readonly idleSeconds: number;
  /** Between two probes: whole seconds, 1 to 32767. */
  readonly intervalSeconds: number;
  /** This many unanswered probes end the connection with ETIMEDOUT: 1 to 127. */
  readonly count: number;
  /**
   * Longest time between two retransmissions or window probes: 1000 to 120000 ms; null leaves the kernel's 120 s, and a
   * kernel before 6.15 always does.
   */
  readonly longestRetransmitMs: number | null;
};

type TcpLife = {
  keepUrgentInline(fd: number): void;
  setProbing(
    fd: number,
    idleSeconds: number,
    intervalSeconds: number,
    count: number,
    longestRetransmitMs: number,
  ): void;
  tcpCondition(fd: number): [state: number, unansweredProbes: number, msSinceSent: number, msSinceReceived: number];
  setDeaf(fd: number, isDeaf: boolean): void;
  takeSocketError(fd: number): number;
};

/**
 * Urgent data (MSG_OOB) stays in the stream, at the place where it was sent; by default the kernel takes its byte out.
 * Accepted sockets inherit it from a listener.
 */
export function keepUrgentInline(fd: number): void {
  callAddon('keeping urgent data inline', (addon: TcpLife) => addon.keepUrgentInline(fd));
}

/** Turns probes on, or changes them, also on an open connection. Accepted sockets inherit them from a listener. */
export function setProbing(fd: number, how: Probing): void {
  const { idleSeconds, intervalSeconds, count, longestRetransmitMs } = how;
  callAddon('probing a connection', (addon: TcpLife) =>
    addon.setProbing(fd, idleSeconds, intervalSeconds, count, longestRetransmitMs ?? 0),
  );
}

/** From include/net/tcp_states.h. */
const established = 1;
/** FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT. */
const halfClosedStates: ReadonlySet<number> = new Set([4, 5, 8]);

/** What the kernel knows of a connection and does not report before the socket is read or written. */
export type TcpCondition = {
  /** At least one direction is open; false also for a connection that ended in order. */
  readonly isOpen: boolean;
  /** Exactly one direction is open. */
  readonly isHalfClosed: boolean;
  /** Keepalive probes since the last sign of the other side. */
  readonly unansweredProbes: number;
  /** Since bytes were last sent or received. */
  readonly silentMs: number;
};

export function tcpCondition(fd: number): TcpCondition {
  const [state, unansweredProbes, msSinceSent, msSinceReceived] = callAddon(
    'reading the condition of a connection',
    (addon: TcpLife) => addon.tcpCondition(fd),
  );
  const isHalfClosed = halfClosedStates.has(state);
  return {
    isOpen: state === established || isHalfClosed,
    isHalfClosed,
    unansweredProbes,
    silentMs: Math.min(msSinceSent, msSinceReceived),
  };
}

/**
 * A deaf socket takes no segment but a reset, so its peer gets no answer, as from a host that is gone. What it sends is not
 * held back.
 */
export function setDeaf(fd: number, isDeaf: boolean): void {
  callAddon('making a socket deaf', (addon: TcpLife) => addon.setDeaf(fd, isDeaf));
}

/** The errno with which a connection broke, such as `ECONNRESET`; null for none. The kernel tells it once. */
export function takeSocketError(fd: number): string | null {
  const errno = callAddon('reading the error of a socket', (addon: TcpLife) => addon.takeSocketError(fd));
  return errno === 0 ? null : getSystemErrorName(-errno);
}

/**
 * The error that the kernel holds for a socket whose `end` Node has just reported; null if it really was an end. If a RST
 * arrives together with the last bytes, libuv reports these and then an end (`uv__stream_io`: EOF after a partial read at
 * POLLHUP).
 */
export function errorBehindEnd(socket: Socket): string | null {
  return socket.destroyed ? null : takeSocketError(acceptedFd(socket));
}
