import { constants, type Http2Stream } from 'node:http2';
import { Duplex, Readable } from 'node:stream';
import { errorCodeName } from '../http2-error-code.js';
import type { TunnelStream } from '../tunnel-stream.js';

/**
 * Gives a `node:http2` stream of a CONNECT the two things that TCP has and HTTP/2 streams lack: a reset, and knowing
 * whether the end was one. The stream itself is returned, so no chunk passes through another layer.
 */
export function asTunnelStream(stream: Http2Stream, deathOfTunnel: () => string): TunnelStream {
  // What went wrong is told by wasReset; without a listener an error would end the process.
  stream.on('error', () => {});
  deaths.set(stream, deathOfTunnel);
  Object.setPrototypeOf(stream, tunnelPrototypeFor(Object.getPrototypeOf(stream) as object));
  // Node closes a server's stream that nobody has begun to read when its writable side ends, and drops what still comes.
  stream.read(0);
  return stream as unknown as TunnelStream;
}

/** What a stream's tunnel died of, asked when it matters. */
const deaths = new WeakMap<object, () => string>();
const tunnelPrototypes = new WeakMap<object, object>();

const tunnelProperties: PropertyDescriptorMap & ThisType<Http2Stream> = {
  reset: {
    value(): void {
      resetStream(this);
    },
  },
  wasReset: {
    get(): boolean {
      return isReset(this);
    },
  },
  // What every other stream calls `closed`; Http2Stream redefines that as "both sides have sent their end".
  isGone: {
    get(): boolean {
      return Reflect.get(Readable.prototype, 'closed', this);
    },
  },
  destroy: {
    value(error?: Error): Duplex {
      if (error === undefined && hasOnlyToWrite(this)) return this;
      return Duplex.prototype.destroy.call(this, error);
    },
  },
  resetDetail: {
    get(): string {
      return isReset(this) ? detailOf(this, deaths.get(this)?.() ?? '') : '';
    },
  },
};

/**
 * One more prototype for each of Node's two classes of streams. Accessors on the stream itself would give every stream
 * a hidden class of its own, and code that meets a new class each time is never compiled well.
 */
function tunnelPrototypeFor(prototype: object): object {
  const known = tunnelPrototypes.get(prototype);
  if (known !== undefined) return known;
  const made = Object.create(prototype, tunnelProperties) as object;
  tunnelPrototypes.set(prototype, made);
  // A stream that is given here twice stays as it is.
  tunnelPrototypes.set(made, made);
  return made;
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

/**
 * Node destroys a stream as soon as both ends were framed, although its last bytes may still wait for the connection:
 * `finish` never came, and an orderly end looked like a break. Left alone, it is destroyed by Node once they are
 * written, or with its session. Asked again it is destroyed: HTTP/2 knows the stream no more, so `localClose` is not 1.
 * That also tells the peer's RST_STREAM NO_ERROR apart, after which what is queued is never written.
 */
function hasOnlyToWrite(stream: Http2Stream): boolean {
  return (
    stream.closed &&
    !stream.readable &&
    !stream.writableFinished &&
    !isReset(stream) &&
    stream.session?.destroyed === false &&
    stream.state.localClose === 1
  );
}

function detailOf(stream: Http2Stream, deathOfTunnel: string): string {
  return deathOfTunnel === '' ? `RST_STREAM ${errorCodeName(stream.rstCode ?? 0)}` : deathOfTunnel;
}
