import { randomBytes } from 'node:crypto';

/**
 * A fresh serial number, hex: 20 random bytes, positive and not zero, and still 20 bytes when encoded (RFC 5280,
 * section 4.1.2.2).
 */
export function newSerial(): string {
  const bytes = randomBytes(20);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}
