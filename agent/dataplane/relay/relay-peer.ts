/** Why a side broke. */
export type Breakage = {
  readonly detail: string;
  /** Its application sent RST. Otherwise the path broke, and the application may know nothing of it. */
  readonly isReset: boolean;
};

/** What a side tells of itself, from {@link RelayPeer.open} on. */
export interface PeerOwner {
  /** Lent: the memory is the owner's until it returns. */
  onBytes(bytes: Buffer): void;
  /** What waited has been taken. It may also be told when nothing had waited. */
  onDrained(): void;
  /** Its application closed its direction in order; all its bytes were told before. */
  onEnd(): void;
  /** As {@link RelayPeer.breakage}. May be told more than once. The owner resets it, or it may never be gone. */
  onBroken(breakage: Breakage): void;
  /** It is closed. The last that is told, once. */
  onGone(): void;
}

/** Bytes that may wait for a side before the sender of them is paused. */
export type OutputBounds = {
  readonly usualBytes: number;
  /** While it has not shown that it takes its bytes in time. */
  readonly unprovenBytes: number;
  /** What it takes at first proves nothing: buffers of the kernel take that. */
  readonly beginsUnproven: boolean;
};

/** A TCP socket of this host: what the kernel is asked about goes by its descriptor. */
export interface PeerSocket {
  /** Use it at once, and never close it. Throws `EBADF` when the socket is closed. */
  readonly fd: number;
  readonly isClosed: boolean;
  /** It broke, which the kernel tells only who asks: closes it, with this name of an errno as its breakage. */
  breakWith(code: string): void;
}

/**
 * One side of a relayed connection: an application's socket or a stream of a tunnel. Each direction ends by itself. The relay
 * owns it, and after both directions have ended in order it closes by itself.
 */
export interface RelayPeer {
  /** Null for a stream of a tunnel. */
  readonly socket: PeerSocket | null;
  readonly bounds: OutputBounds;
  /** `onGone` was called, or will be in this turn. */
  readonly isGone: boolean;
  /** Why this side broke; null while it is open, and after both directions closed in order. */
  readonly breakage: Breakage | null;
  readonly isPaused: boolean;
  /** Received, and not told yet, as far as it has left the kernel or the tunnel. */
  readonly unreadBytes: number;
  /** Sent to it, and not taken by the kernel or the tunnel. */
  readonly waitingBytes: number;
  /** All bytes that were sent to it have been taken, and the end behind them. */
  readonly hasTakenAll: boolean;
  /** To be called once, before anything else that follows. Nothing is read before {@link resume}. */
  open(owner: PeerOwner): void;
  pause(): void;
  resume(): void;
  /**
   * Sends lent bytes, which it copies where they have to wait: for the other side, or for more of the same turn, which go
   * in one system call. Returns 0 or {@link waitingBytes}.
   */
  send(bytes: Buffer): number;
  /** Sends what waits for the end of the turn. */
  flush(): void;
  /** FIN behind what waits. The other direction goes on. */
  end(): void;
  /** RST. Bytes that were sent and can leave at once go out first. */
  reset(): void;
}

/** A RST shows as ECONNRESET when we read, and as EPIPE when we write after it. */
export function socketBreakage(detail: string): Breakage {
  return { detail, isReset: detail === 'ECONNRESET' || detail === 'EPIPE' };
}

/** Less than this goes out at once to an idle socket: waiting for the end of the turn would only add latency. */
export const promptBytes = 8192;

/**
 * What waits leaves in few system calls, so a larger bound saves some. Beyond it the flow control of the kernel slows the sender
 * down. For an application on a new connection, and for one that took its bytes late, a larger bound would only hold more memory:
 * the kernel's buffers, a megabyte or more, take the first bytes at once even if nothing reads them.
 */
export const socketBounds: OutputBounds = { usualBytes: 262_144, unprovenBytes: 65_536, beginsUnproven: true };
