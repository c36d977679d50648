import type { ConnectionViolation } from './hpack/connection-violation.js';
import type { EngineStream } from './engine-stream.js';
import type { HeaderMap } from './header-rules.js';

/** What happens on a connection beside its streams. Called while bytes are received; may call the engine back. */
export interface EngineEvents {
  /** Server: a well-formed request, whose stream has no {@link EngineStream.events} yet: set them first. */
  onRequest(stream: EngineStream, headers: HeaderMap): void;
  /** The peer's SETTINGS were taken over; the first are its half of the preface. */
  onSettings(): void;
  /** The answer to a PING of ours. */
  onPong(): void;
  /** The peer takes no new streams; those it will not serve were reset with REFUSED_STREAM. */
  onGoaway(code: number, debugData: Buffer): void;
  /** The last stream is gone. */
  onStreamsGone(): void;
  /** The peer broke HTTP/2. The GOAWAY that says so is in the output, every stream was reset, nothing is read any more. */
  onFailure(violation: ConnectionViolation): void;
}
