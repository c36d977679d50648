import { isReason, type Reason } from '../../../shared/reasons.js';
import { handshakeReasons } from '../connection/failure-reasons.js';
import { errorCode } from '../engine/http2-error-code.js';

/**
 * What a server sends to a client whose certificate it does not accept. In TLS 1.3 the client has already finished its
 * handshake, and Node cannot send the alert, so this is an empty SETTINGS and a GOAWAY with INADEQUATE_SECURITY whose debug
 * data has the reason (RFC 9113 section 6.8). About 80 bytes; an unproved peer gets no HTTP/2 state.
 */
export function rejectFrames(reason: Reason): Buffer {
  const debugData = Buffer.from(`${prefix}${reason}`);
  const settings = frameHeader(0, settingsType);
  const goaway = frameHeader(8 + debugData.length, goawayType);
  const body = Buffer.alloc(8);
  body.writeUInt32BE(errorCode.inadequateSecurity, 4);
  return Buffer.concat([settings, goaway, body, debugData]);
}

/** The reason in a GOAWAY of {@link rejectFrames}; undefined for any other. A peer can claim only handshake reasons. */
export function rejectReason(code: number, debugData: Uint8Array | undefined): Reason | undefined {
  if (code !== errorCode.inadequateSecurity || debugData === undefined) return undefined;
  const text = Buffer.from(debugData).toString('latin1');
  const reason = text.startsWith(prefix) ? text.slice(prefix.length) : '';
  return isReason(reason) && handshakeReasons.has(reason) ? reason : 'TLS_HANDSHAKE';
}

const prefix = 'culvert:';
const settingsType = 4;
const goawayType = 7;

/** Length, type, no flags, stream 0 (RFC 9113 §4.1). */
function frameHeader(length: number, type: number): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(length, 0, 3);
  header.writeUInt8(type, 3);
  return header;
}
