import { constants, type Http2Stream } from 'node:http2';
import { Duplex, Readable } from 'node:stream';
import { errorCodeName } from '../http2-error-code.js';
import type { TunnelStream } from '../tunnel-stream.js';

/**
 * Adds to a `node:http2` stream of a CONNECT what TCP has and HTTP/2 streams lack: a reset, and whether the end was
 * one. Returns the stream itself, so chunks pass through no extra layer.
 */
export function asTunnelStream(stream: Http2Stream, deathOfTunnel: () => string): TunnelStream {
  // wasReset reports what went wrong. Without a listener an error would end the process.
  stream.on('error', () => {});
  deaths.set(stream, deathOfTunnel);
  Object.setPrototypeOf(stream, tunnelPrototypeFor(Object.getPrototypeOf(stream) as object));
  // When the writable side of a server's stream ends before reading has started, Node closes the stream and drops what
  // still arrives.
  stream.read(0);
  return stream as unknown as TunnelStream;
}

/** Returns why a stream's tunnel died; called only when needed. */
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
  // Every other stream calls this `closed`. Http2Stream redefines `closed` as "both sides have sent their end".
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
  isTunnelLost: {
    get(): boolean {
      return isReset(this) && deathOf(this) !== '';
    },
  },
  resetDetail: {
    get(): string {
      return isReset(this) ? detailOf(this) : '';
    },
  },
};

/**
 * Creates one more prototype for each of Node's two stream classes. Accessors on the stream itself would give every
 * stream its own hidden class, and V8 does not optimise code that sees a new class each time.
 */
function tunnelPrototypeFor(prototype: object): object {
  const known = tunnelPrototypes.get(prototype);
  if (known !== undefined) return known;
  const made = Object.create(prototype, tunnelProperties) as object;
  tunnelPrototypes.set(prototype, made);
  // A stream that is passed in twice stays as it is.
  tunnelPrototypes.set(made, made);
  return made;
}

/**
 * Sends RST_STREAM CONNECT_ERROR and nothing before it. `close()` would first end the writable side, which sends
 * END_STREAM, and the other application would see a clean FIN after truncated data.
 */
export function resetStream(stream: Http2Stream, code: number = constants.NGHTTP2_CONNECT_ERROR): void {
  if (stream.closed || stream.destroyed) {
    stream.destroy();
    return;
  }
  stream._final = (callback) => callback();
  // Since Node 24 a write of this turn would carry the END_STREAM, although `_final` sends none.
  stream.end = () => stream;
  stream.close(code);
  Reflect.deleteProperty(stream, 'end');
  // Data that was received and not read yet is lost, as with TCP. Unread, it would keep the stream alive.
  stream.resume();
}

/**
 * A reset with any code, or RST_STREAM NO_ERROR (or the loss of the tunnel) while this side was still open. Node
 * reports those as a normal end with the `aborted` flag. It reports CANCEL with an `end` event too.
 */
function isReset(stream: Http2Stream): boolean {
  return stream.aborted || stream.rstCode !== constants.NGHTTP2_NO_ERROR;
}

/**
 * Node destroys a stream as soon as both ends were framed, although its last bytes may still wait for the connection:
 * `finish` would never come, and an orderly end would look like a break. If we do not destroy it, Node does once the
 * bytes are written, or with the session. The second time it must be destroyed: the stream is then unknown to HTTP/2,
 * so `localClose` is not 1. The same check recognises the peer's RST_STREAM NO_ERROR, after which queued bytes are
 * never written.
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

/** Empty while the tunnel lives. */
function deathOf(stream: Http2Stream): string {
  return deaths.get(stream)?.() ?? '';
}

function detailOf(stream: Http2Stream): string {
  const deathOfTunnel = deathOf(stream);
  return deathOfTunnel === '' ? `RST_STREAM ${errorCodeName(stream.rstCode ?? 0)}` : deathOfTunnel;
}
