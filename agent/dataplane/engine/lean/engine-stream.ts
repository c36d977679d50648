import type { HeaderMap } from './header-rules.js';
import type { StreamWindow } from './stream-window.js';

/** Events of one stream. Called while bytes are received or sent; handlers may call the engine. */
export interface EngineStreamEvents {
  /** Client: the final response. */
  onResponse(headers: HeaderMap): void;
  /** A view of received data. Credit its length when it was consumed. */
  onData(chunk: Buffer): void;
  /** The peer's END_STREAM. */
  onEnd(): void;
  /** Both directions are gone: the peer reset the stream, the peer violated a rule, or the connection ended. */
  onReset(code: number): void;
  /** Everything that was written has moved to the output, so more can be written. */
  onTaken(): void;
  /** Only the end follows what was written, so it may go out with the last bytes. */
  readonly isEnding: boolean;
}

/** One stream as the engine keeps it. Only the engine writes to it. */
export class EngineStream {
  readonly id: number;
  /** Only DATA may arrive: on a CONNECT at the server, on an accepted one at the client (RFC 9113 §8.5). */
  isTunnel: boolean;
  readonly receiveWindow: StreamWindow;
  /** Set before any event can occur. */
  events: EngineStreamEvents = noEvents;
  /** What the peer allows us to send; negative after it reduced its initial window (RFC 9113 §6.9.2). */
  sendWindowBytes: number;
  /** The final response was received or sent. */
  isAnswered = false;
  isLocalEnded = false;
  isRemoteEnded = false;
  isClosed = false;

  /** To be sent: `queue[queueHead]` is next; its first `headOffset` bytes have left. */
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

  /** Drops what was to be sent. */
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
