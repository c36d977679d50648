import { ConnectionViolation } from './hpack/connection-violation.js';
import { errorCode } from '../http2-error-code.js';
import { largestFrameBytes, largestWindowBytes, protocolDefaults, settingId } from './frame-format.js';

/** A SETTINGS frame may contain each setting more than once; no honest peer comes near this. */
const mostSettings = 64;
const settingBytes = 6;

/** What the peer announced (RFC 9113 §6.5). */
export class PeerSettings {
  initialWindowBytes: number = protocolDefaults.windowBytes;
  maxFrameBytes: number = protocolDefaults.frameBytes;
  maxConcurrentStreams: number = Number.POSITIVE_INFINITY;
  readonly #isServer: boolean;

  /** `isServer`: the peer is a server. */
  constructor({ isServer }: { readonly isServer: boolean }) {
    this.#isServer = isServer;
  }

  /** Applies the payload of a SETTINGS frame, in order. Throws a {@link ConnectionViolation}. */
  apply(payload: Buffer): void {
    if (payload.length % settingBytes !== 0) {
      throw new ConnectionViolation({ code: errorCode.frameSizeError, detail: 'SETTINGS of invalid length' });
    }
    if (payload.length > mostSettings * settingBytes) {
      throw new ConnectionViolation({ code: errorCode.enhanceYourCalm, detail: 'too many settings in one frame' });
    }
    for (let at = 0; at < payload.length; at += settingBytes) {
      this.#use(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    }
  }

  /** Unknown settings are ignored (§6.5.2). HEADER_TABLE_SIZE concerns encoders with a table; ours has none. */
  #use(id: number, value: number): void {
    if (id === settingId.enablePush) {
      if (value > 1 || (value === 1 && this.#isServer)) throw wrong('ENABLE_PUSH', value, errorCode.protocolError);
    } else if (id === settingId.maxConcurrentStreams) {
      this.maxConcurrentStreams = value;
    } else if (id === settingId.initialWindowSize) {
      if (value > largestWindowBytes) throw wrong('INITIAL_WINDOW_SIZE', value, errorCode.flowControlError);
      this.initialWindowBytes = value;
    } else if (id === settingId.maxFrameSize) {
      if (value < protocolDefaults.frameBytes || value > largestFrameBytes) {
        throw wrong('MAX_FRAME_SIZE', value, errorCode.protocolError);
      }
      this.maxFrameBytes = value;
    }
  }
}

function wrong(name: string, value: number, code: number): ConnectionViolation {
  return new ConnectionViolation({ code, detail: `${name} ${value}` });
}
