import type { HeaderMap } from './header-rules.js';
import type { StreamWindow } from './stream-window.js';

/** What happens to one stream. Called while bytes are received or sent; may call the engine back. */
export interface EngineStreamEvents {
  /** Client: the final response. */
  onResponse(headers: HeaderMap): void;
  /** A view of what was received. Its length is to be credited when it was consumed. */
  onData(chunk: Buffer): void;
  /** The peer's END_STREAM. */
  onEnd(): void;
  /** It is gone in both directions, by the peer, by a rule that the peer broke, or with the connection. */
  onReset(code: number): void;
  /** Everything that was written has left for the output: time to write more. */
  onTaken(): void;
  /** After what was written comes nothing but the end, which may go out with the last of it. */
  readonly isEnding: boolean;
}

/** One stream as the engine keeps it; only the engine writes to it. */
export class EngineStream {
  readonly id: number;
  /** Nothing but DATA may come: a CONNECT at the server, an accepted one at the client (RFC 9113 §8.5). */
  isTunnel: boolean;
  readonly receiveWindow: StreamWindow;
  /** Set before anything can happen. */
  events: EngineStreamEvents = noEvents;
  /** What the peer lets us send; below 0 after it made its initial window smaller (RFC 9113 §6.9.2). */
  sendWindowBytes: number;
  /** The final response has come, or was sent. */
  isAnswered = false;
  isLocalEnded = false;
  isRemoteEnded = false;
  isClosed = false;

  /** To be sent: `queue[queueHead]` is next, of which `headOffset` bytes have left. */
  queue: Buffer[] = [];
  queueHead = 0;
  headOffset = 0;
  queuedBytes = 0;
  isEndQueued = false;
  /** It is in the scheduler's list. */
  isScheduled = false;

  constructor(init: {
    readonly id: number;
    readonly isTunnel: boolean;
    readonly sendWindowBytes: number;
    readonly receiveWindow: StreamWindow;
  }) {
    this.id = init.id;
    this.isTunnel = init.isTunnel;
    this.sendWindowBytes = init.sendWindowBytes;
    this.receiveWindow = init.receiveWindow;
  }

  /** Forgets what was to be sent. */
  dropQueue(): void {
    this.queue = [];
    this.queueHead = 0;
    this.headOffset = 0;
    this.queuedBytes = 0;
  }
}

const noEvents: EngineStreamEvents = {
  onResponse: () => {},
  onData: () => {},
  onEnd: () => {},
  onReset: () => {},
  onTaken: () => {},
  isEnding: false,
};
