import { ConnectionViolation } from './hpack/connection-violation.js';
import type { EngineEvents } from './engine-events.js';
import type { EngineLimits } from './engine-limits.js';
import type { EngineStream } from './engine-stream.js';
import { errorCode } from '../http2-error-code.js';
import type { FloodGuard } from './flood-guard.js';
import type { HeaderBlock } from './header-blocks.js';
import { judgeRequest, judgeResponse, judgeTrailers } from './header-rules.js';
import { HpackDecoder, type DecodedFields } from './hpack/hpack-decoder.js';
import { protocolDefaults } from './frame-format.js';
import type { StreamTable } from './stream-table.js';

/** Interprets header blocks: requests at a server, responses at a client, trailers at both (RFC 9113 §8.1). */
export class IncomingHeaders {
  readonly #isServer: boolean;
  readonly #limits: EngineLimits;
  readonly #table: StreamTable;
  readonly #guard: FloodGuard;
  readonly #events: EngineEvents;
  readonly #decoder: HpackDecoder;
  /** False after our GOAWAY: newer streams are dropped, and their opener retries elsewhere (RFC 9113 §6.8). */
  takesRequests = true;

  constructor(init: {
    readonly isServer: boolean;
    readonly limits: EngineLimits;
    readonly table: StreamTable;
    readonly guard: FloodGuard;
    readonly events: EngineEvents;
  }) {
    const { limits } = init;
    this.#isServer = init.isServer;
    this.#limits = limits;
    this.#table = init.table;
    this.#guard = init.guard;
    this.#events = init.events;
    this.#decoder = new HpackDecoder({
      maxTableBytes: protocolDefaults.headerTableBytes,
      maxListBytes: limits.maxHeaderListBytes,
      maxFields: limits.maxHeaderFields,
    });
  }

  receive({ streamId, isEnd, block }: HeaderBlock): void {
    // Always decoded, whatever happens to the stream: the decoder's table belongs to the connection.
    const decoded = this.#decoder.decode(block);
    if ((streamId & 1) === 0) throw protocolError('HEADERS on a stream that no client opened');
    const stream = this.#table.get(streamId);
    if (stream !== undefined) this.#receiveOpen(stream, decoded, isEnd);
    else if (!this.#table.isIdle(streamId)) this.#receiveClosed(streamId);
    else if (this.#isServer) this.#receiveRequest(streamId, decoded, isEnd);
    else throw protocolError('HEADERS on an idle stream');
  }

  #receiveRequest(id: number, decoded: DecodedFields, isEnd: boolean): void {
    this.#table.notePeerId(id);
    if (!this.takesRequests) {
      this.#guard.count('emptyFrame');
      return;
    }
    if (decoded.isTooLarge) {
      this.#table.refuse(id, errorCode.enhanceYourCalm);
      return;
    }
    const judged = judgeRequest(decoded.fields);
    if (judged.isMalformed) {
      this.#table.refuse(id, errorCode.protocolError);
      return;
    }
    if (this.#table.size >= this.#limits.maxStreams) {
      this.#table.refuse(id, errorCode.refusedStream);
      return;
    }
    const stream = this.#table.openPeers(id, judged.headers[':method'] === 'CONNECT');
    this.#events.onRequest(stream, judged.headers);
    if (isEnd && !stream.isClosed) this.#table.endRemote(stream);
  }

  #receiveOpen(stream: EngineStream, decoded: DecodedFields, isEnd: boolean): void {
    if (stream.isRemoteEnded) this.#table.fail(stream, errorCode.streamClosed);
    else if (decoded.isTooLarge) this.#table.fail(stream, errorCode.enhanceYourCalm);
    else if (!this.#isServer && !stream.isAnswered) this.#receiveResponse(stream, decoded, isEnd);
    else this.#receiveTrailers(stream, decoded, isEnd);
  }

  #receiveResponse(stream: EngineStream, decoded: DecodedFields, isEnd: boolean): void {
    const judged = judgeResponse(decoded.fields);
    const isInterim = !judged.isMalformed && judged.headers[':status']!.startsWith('1');
    if (judged.isMalformed || (isInterim && isEnd)) {
      this.#table.fail(stream, errorCode.protocolError);
      return;
    }
    if (isInterim) {
      this.#guard.count('emptyFrame');
      return;
    }
    stream.isAnswered = true;
    stream.isTunnel = judged.headers[':status']!.startsWith('2');
    stream.events.onResponse(judged.headers);
    if (isEnd && !stream.isClosed) this.#table.endRemote(stream);
  }

  /** The second HEADERS of a direction end it, and an established CONNECT has no trailers (RFC 9113 §8.1, §8.5). */
  #receiveTrailers(stream: EngineStream, decoded: DecodedFields, isEnd: boolean): void {
    if (stream.isTunnel || !isEnd || judgeTrailers(decoded.fields).isMalformed) {
      this.#table.fail(stream, errorCode.protocolError);
      return;
    }
    this.#table.endRemote(stream);
  }

  /**
   * A client may receive the response to a stream that it has reset. At a server the identifier was used before, which
   * is an error (RFC 9113 §5.1.1), unless the server has reset the stream and trailers were in flight.
   */
  #receiveClosed(id: number): void {
    if (this.#isServer && !this.#table.wasReset(id)) throw protocolError('HEADERS on a closed stream');
    this.#guard.count('emptyFrame');
  }
}

function protocolError(detail: string): ConnectionViolation {
  return new ConnectionViolation({ code: errorCode.protocolError, detail });
}
