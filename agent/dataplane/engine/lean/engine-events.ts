import type { ConnectionViolation } from './hpack/connection-violation.js';
import type { EngineStream } from './engine-stream.js';
import type { HeaderMap } from './header-rules.js';

/** Events of a connection outside its streams. Called while bytes are received; handlers may call the engine. */
export interface EngineEvents {
  /** Server: a well-formed request. Its stream has no {@link EngineStream.events} yet, so set them first. */
  onRequest(stream: EngineStream, headers: HeaderMap): void;
  /** The peer's SETTINGS were applied. The first SETTINGS are its half of the preface. */
  onSettings(): void;
  /** The answer to one of our PINGs. */
  onPong(): void;
  /** The peer accepts no new streams. Those that it will not process were reset with REFUSED_STREAM. */
  onGoaway(code: number, debugData: Buffer): void;
  /** The last stream is gone. */
  onStreamsGone(): void;
  /** The peer violated HTTP/2. The GOAWAY is in the output, every stream was reset, and nothing more is read. */
  onFailure(violation: ConnectionViolation): void;
}
