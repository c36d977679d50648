import { ConnectionViolation } from './hpack/connection-violation.js';
import { errorCode } from '../http2-error-code.js';
import { frameFlag } from './frame-format.js';

/** A complete field block (RFC 9113 §4.3), still encoded. `block` may be a view of received bytes. */
export type HeaderBlock = { readonly streamId: number; readonly isEnd: boolean; readonly block: Buffer };

/** Encoded bytes of one block, and the number of frames it may span: against endless CONTINUATION (CVE-2024-27316). */
const mostBlockBytes = 65_536;
const mostContinuations = 32;
const priorityBytes = 5;

/** Joins HEADERS and CONTINUATION frames (RFC 9113 §6.2, §6.10). Throws {@link ConnectionViolation}s. */
export class HeaderBlocks {
  #streamId = 0;
  #isEnd = false;
  #parts: Buffer[] = [];
  #bytes = 0;

  /** The stream whose CONTINUATION must come next; 0: none is open. */
  get openStreamId(): number {
    return this.#streamId;
  }

  /** A HEADERS frame; returns null if the block is not complete yet. */
  begin(flags: number, streamId: number, payload: Buffer): HeaderBlock | null {
    const fragment = fragmentOf(flags, payload);
    const isEnd = (flags & frameFlag.endStream) !== 0;
    if ((flags & frameFlag.endHeaders) !== 0) return { streamId, isEnd, block: fragment };
    this.#streamId = streamId;
    this.#isEnd = isEnd;
    // The payload is only valid during the call.
    this.#parts = [Buffer.from(fragment)];
    this.#bytes = fragment.length;
    return null;
  }

  /** A CONTINUATION frame of {@link openStreamId}. */
  continue(flags: number, payload: Buffer): HeaderBlock | null {
    this.#parts.push(Buffer.from(payload));
    this.#bytes += payload.length;
    if (this.#bytes > mostBlockBytes || this.#parts.length > mostContinuations) {
      throw new ConnectionViolation({ code: errorCode.enhanceYourCalm, detail: 'an endless header block' });
    }
    if ((flags & frameFlag.endHeaders) === 0) return null;
    const whole = { streamId: this.#streamId, isEnd: this.#isEnd, block: Buffer.concat(this.#parts) };
    this.#streamId = 0;
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }
}

/** Without padding and priority (RFC 9113 §6.2). */
function fragmentOf(flags: number, payload: Buffer): Buffer {
  let start = 0;
  let padBytes = 0;
  if ((flags & frameFlag.padded) !== 0) {
    padBytes = payload[0] ?? 0;
    start = 1;
  }
  if ((flags & frameFlag.priority) !== 0) start += priorityBytes;
  if (start > payload.length) {
    throw new ConnectionViolation({ code: errorCode.frameSizeError, detail: 'HEADERS too short for its flags' });
  }
  if (start + padBytes > payload.length) {
    throw new ConnectionViolation({ code: errorCode.protocolError, detail: 'padding longer than its HEADERS frame' });
  }
  return payload.subarray(start, payload.length - padBytes);
}
