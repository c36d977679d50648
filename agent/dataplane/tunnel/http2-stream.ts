import { constants, type Http2Stream } from 'node:http2';
import { Readable } from 'node:stream';
import type { TunnelStream } from './tunnel.js';

/**
 * Gives a `node:http2` stream of a CONNECT the two things that TCP has and HTTP/2 streams lack: a reset, and knowing
 * whether the end was one. The stream itself is returned, so no chunk passes through another layer.
 */
export function asTunnelStream(stream: Http2Stream, deathOfTunnel: () => string): TunnelStream {
  // What went wrong is told by wasReset; without a listener an error would end the process.
  stream.on('error', () => {});
  Object.defineProperties(stream, {
    reset: { value: () => resetStream(stream) },
    wasReset: { get: () => isReset(stream) },
    // What every other stream calls `closed`; Http2Stream redefines that as "both sides have sent their end".
    isGone: { get: () => Reflect.get(Readable.prototype, 'closed', stream) },
    resetDetail: { get: () => (isReset(stream) ? detailOf(stream, deathOfTunnel()) : '') },
  });
  // Node closes a server's stream that nobody has begun to read when its writable side ends, and drops what still comes.
  stream.read(0);
  return stream as unknown as TunnelStream;
}

/**
 * RST_STREAM CONNECT_ERROR and nothing before it: `close()` would first end the writable side, and the END_STREAM that
 * this sends comes out at the other application as a clean FIN after truncated data.
 */
export function resetStream(stream: Http2Stream, code: number = constants.NGHTTP2_CONNECT_ERROR): void {
  if (stream.closed || stream.destroyed) {
    stream.destroy();
    return;
  }
  stream._final = (callback) => callback();
  stream.close(code);
  // What was received and not read yet is lost, as with TCP; unread, it would keep the stream alive.
  stream.resume();
}

/**
 * A reset by any code, and also RST_STREAM NO_ERROR (or the loss of the tunnel) while this side was still open, which
 * Node reports as a normal end with the `aborted` flag. CANCEL too is reported with an `end` event.
 */
function isReset(stream: Http2Stream): boolean {
  return stream.aborted || stream.rstCode !== constants.NGHTTP2_NO_ERROR;
}

/** RFC 9113 §7, in the order of their numbers. */
const codeNames = [
  'NO_ERROR',
  'PROTOCOL_ERROR',
  'INTERNAL_ERROR',
  'FLOW_CONTROL_ERROR',
  'SETTINGS_TIMEOUT',
  'STREAM_CLOSED',
  'FRAME_SIZE_ERROR',
  'REFUSED_STREAM',
  'CANCEL',
  'COMPRESSION_ERROR',
  'CONNECT_ERROR',
  'ENHANCE_YOUR_CALM',
  'INADEQUATE_SECURITY',
  'HTTP_1_1_REQUIRED',
] as const;

/** `CONNECT_ERROR`, or the number of a code without a name. */
export function http2CodeName(code: number): string {
  return codeNames[code] ?? `code ${code}`;
}

function detailOf(stream: Http2Stream, deathOfTunnel: string): string {
  return deathOfTunnel === '' ? `RST_STREAM ${http2CodeName(stream.rstCode ?? 0)}` : deathOfTunnel;
}
