/** Primitive elements of DER (X.690), as far as a certificate request needs them. */
export const der = {
  /** 0 to 127. */
  integer: (value: number): Buffer => element(0x02, Buffer.from([value])),
  true: (): Buffer => element(0x01, Buffer.from([0xff])),
  /** `hex`: the encoded identifier without tag and length. */
  oid: (hex: string): Buffer => element(0x06, Buffer.from(hex, 'hex')),
  octets: (bytes: Uint8Array): Buffer => element(0x04, bytes),
  /** Whole octets only. */
  bitString: (bytes: Uint8Array): Buffer => element(0x03, Buffer.from([0]), bytes),
  utf8: (text: string): Buffer => element(0x0c, Buffer.from(text, 'utf8')),
  /** `uniformResourceIdentifier [6] IA5String` of GeneralName (RFC 5280, section 4.2.1.6). */
  uri: (text: string): Buffer => element(0x86, Buffer.from(text, 'latin1')),
} as const;

/** Constructed elements of DER; their children are already encoded. */
export const derTree = {
  sequence: (...children: readonly Uint8Array[]): Buffer => element(0x30, ...children),
  set: (...children: readonly Uint8Array[]): Buffer => element(0x31, ...children),
  /** `[0] IMPLICIT` of a constructed type. */
  context0: (...children: readonly Uint8Array[]): Buffer => element(0xa0, ...children),
} as const;

function element(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const length = contents.reduce((sum, { length: bytes }) => sum + bytes, 0);
  return Buffer.concat([Buffer.from([tag, ...lengthOctets(length)]), ...contents]);
}

/** X.690, section 8.1.3: one octet below 128; otherwise the number of octets, then as few as possible. */
function lengthOctets(length: number): number[] {
  if (length < 0x80) return [length];
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  return [0x80 | octets.length, ...octets];
}
