import { isReason, type Reason } from '../../../shared/reasons.js';

/**
 * What a server says to a client whose certificate it does not accept: in TLS 1.3 the client has finished its handshake
 * by then, and Node cannot send the alert. So: an empty SETTINGS and a GOAWAY with INADEQUATE_SECURITY, whose debug
 * data name the reason (RFC 9113 §6.8). Eighty constant bytes; no HTTP/2 state is made for an unproved peer.
 */
export function rejectFrames(reason: Reason): Buffer {
  const debugData = Buffer.from(`${prefix}${reason}`);
  const settings = frameHeader(0, settingsType);
  const goaway = frameHeader(8 + debugData.length, goawayType);
  const body = Buffer.alloc(8);
  body.writeUInt32BE(inadequateSecurity, 4);
  return Buffer.concat([settings, goaway, body, debugData]);
}

/** The reason in a GOAWAY of {@link rejectFrames}; undefined for any other. A peer can only blame the handshake with it. */
export function rejectReason(code: number, debugData: Uint8Array | undefined): Reason | undefined {
  if (code !== inadequateSecurity || debugData === undefined) return undefined;
  const text = Buffer.from(debugData).toString('latin1');
  const reason = text.startsWith(prefix) ? text.slice(prefix.length) : '';
  return isReason(reason) && handshakeReasons.has(reason) ? reason : 'TLS_HANDSHAKE';
}

const prefix = 'culvert:';
const settingsType = 4;
const goawayType = 7;
const inadequateSecurity = 12;
const handshakeReasons: ReadonlySet<Reason> = new Set<Reason>([
  'TLS_HANDSHAKE',
  'PEER_IDENTITY',
  'CERT_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REVOKED',
]);

/** Length, type, no flags, stream 0 (RFC 9113 §4.1). */
function frameHeader(length: number, type: number): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(length, 0, 3);
  header.writeUInt8(type, 3);
  return header;
}
