import type { CapturedPackets } from '../../test/lab/packet-capture.js';

/** TLS 1.3 in the supported_versions of a ServerHello (RFC 8446, section 4.2.1). */
const tls13 = 0x0304;
const handshakeRecord = 22;
const serverHello = 2;
const supportedVersions = 43;

/** Counts the TCP connections from a port that began with a TLS 1.3 ServerHello, and all others. */
export function countTls13Servers(packets: CapturedPackets, port: number): { tls13: number; other: number } {
  const fromServer = packets.streams.filter((stream) => stream.from.endsWith(` ${port}`));
  const matching = fromServer.filter((stream) => negotiatedVersion(stream.bytes) === tls13).length;
  return { tls13: matching, other: fromServer.length - matching };
}

/** Null when the bytes do not begin with a ServerHello. */
function negotiatedVersion(bytes: Buffer): number | null {
  // Record header (5), handshake header (4), legacy version (2), random (32), then the session id.
  if (bytes.length < 44 || bytes[0] !== handshakeRecord || bytes[5] !== serverHello) return null;
  let offset = 43 + 1 + (bytes[43] ?? 0);
  // Cipher suite (2) and compression (1), then the length of the extensions (2).
  const end = offset + 5 + bytes.readUInt16BE(offset + 3);
  offset += 5;
  while (offset + 4 <= Math.min(end, bytes.length)) {
    const length = bytes.readUInt16BE(offset + 2);
    if (bytes.readUInt16BE(offset) === supportedVersions) return bytes.readUInt16BE(offset + 4);
    offset += 4 + length;
  }
  return bytes.readUInt16BE(9);
}
