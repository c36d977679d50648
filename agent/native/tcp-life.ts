import type { Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { acceptedFd, callAddon } from './addon.js';

/** How the kernel asks whether the other side of a connection is still there (tcp(7)). */
export type Probing = {
  /** Time without a segment until the first probe, and between two probes: whole seconds, 1 to 32767. */
  readonly everySeconds: number;
  /**
   * Longest time between two retransmissions or window probes: 1000 to 120000 ms; null leaves what it is, at first the
   * kernel's 120 s, and a kernel before 6.15 always does.
   */
  readonly longestRetransmitMs: number | null;
};

type TcpLife = {
  keepUrgentInline(fd: number): void;
  setProbing(
    fd: number,
    idleSeconds: number,
    everySeconds: number,
    longestRetransmitMs: number,
    mostProbes: number,
  ): void;
  outlastSilence(fd: number, isOn: boolean): void;
  tcpCondition(
    fd: number,
  ): [
    state: number,
    unansweredProbes: number,
    msSinceSent: number,
    msSinceReceived: number,
    msSinceAcknowledgement: number,
    segmentsUnderWay: number,
  ];
  setDeaf(fd: number, isDeaf: boolean): void;
  takeSocketError(fd: number): number;
  hasUnread(fd: number): number;
};

/**
 * Urgent data (MSG_OOB) stays in the stream, at the place where it was sent; by default the kernel takes its byte out.
 * Accepted sockets inherit it from a listener.
 */
export function keepUrgentInline(fd: number): void {
  callAddon('keeping urgent data inline', (addon: TcpLife) => addon.keepUrgentInline(fd));
}

/** The kernel's greatest count (MAX_TCP_KEEPCNT). */
export const mostProbesOfAll = 127;

/**
 * Turns probes on, or changes them, also on an open connection. Accepted sockets inherit them from a listener.
 * `mostProbes` without an answer end the connection with ETIMEDOUT, unless {@link outlastSilence} is on. `idleSeconds`: until
 * the first probe, where that is not the same as between two.
 */
export function setProbing(
  fd: number,
  how: Probing & { readonly idleSeconds?: number },
  mostProbes = mostProbesOfAll,
): void {
  const { everySeconds, longestRetransmitMs, idleSeconds = everySeconds } = how;
  callAddon('probing a connection', (addon: TcpLife) =>
    addon.setProbing(fd, idleSeconds, everySeconds, longestRetransmitMs ?? 0, mostProbes),
  );
}

/** While it is on, the kernel gives the connection up after 24 days of silence only, also while bytes are under way. */
export function outlastSilence(fd: number, isOn: boolean): void {
  callAddon('outlasting a silence', (addon: TcpLife) => addon.outlastSilence(fd, isOn));
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
  /** Keepalive probes since the last sign of the other side. The kernel counts them in a byte: after 255 comes 0. */
  readonly unansweredProbes: number;
  /** Sent, and not acknowledged. */
  readonly hasBytesUnderWay: boolean;
  /** Since the other side last acknowledged anything, a probe too. */
  readonly unheardMs: number;
  /** Since bytes were last sent or received. */
  readonly silentMs: number;
};

export function tcpCondition(fd: number): TcpCondition {
  const [state, unansweredProbes, msSinceSent, msSinceReceived, msSinceAcknowledgement, segmentsUnderWay] = callAddon(
    'reading the condition of a connection',
    (addon: TcpLife) => addon.tcpCondition(fd),
  );
  const isHalfClosed = halfClosedStates.has(state);
  return {
    isOpen: state === established || isHalfClosed,
    isHalfClosed,
    unansweredProbes,
    hasBytesUnderWay: segmentsUnderWay > 0,
    unheardMs: Math.min(msSinceReceived, msSinceAcknowledgement),
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

/** Whether the other side has sent something that is not read yet; `gone`: its end, or an error, comes first. */
export function unreadOn(fd: number): 'bytes' | 'nothing' | 'gone' {
  const found = callAddon('looking for unread bytes', (addon: TcpLife) => addon.hasUnread(fd));
  return found > 0 ? 'bytes' : found === 0 ? 'nothing' : 'gone';
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
