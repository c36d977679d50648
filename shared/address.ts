import ipaddr from 'ipaddr.js';

/** An IP address in canonical form: dotted IPv4, or RFC 5952 IPv6. IPv4-mapped IPv6 becomes IPv4. */
export type IpAddress = string & { readonly __brand: 'IpAddress' };

export type HostPort = { readonly ip: IpAddress; readonly port: number };

/** A network prefix. `base` is canonical, `bytes` is the address in network order, `prefixLength` is in bits. */
export type Cidr = { readonly base: IpAddress; readonly bytes: readonly number[]; readonly prefixLength: number };

const decimalByte = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const canonicalIpv4 = new RegExp(`^(?:${decimalByte}\\.){3}${decimalByte}$`);
/** How a dual-stack socket shows the address of an IPv4 peer (RFC 4291, section 2.5.5.2). */
const mappedPrefix = '::ffff:';

/**
 * Returns the canonical address, or undefined if the text is not an IP literal (octal, short and zone forms are not).
 * IPv4 as the kernel writes it takes a fast path, because the data plane parses five addresses per connection and
 * ipaddr.js throws and catches internally (20 µs).
 */
export function parseIp(text: string): IpAddress | undefined {
  const quad = text.startsWith(mappedPrefix) ? text.slice(mappedPrefix.length) : text;
  if (canonicalIpv4.test(quad)) return quad as IpAddress;
  // ipaddr.js accepts leading zeros in the dotted part of IPv6.
  if (text.includes('.') && !canonicalIpv4.test(text.slice(text.lastIndexOf(':') + 1))) return undefined;
  if (text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined;
  return ipaddr.process(text).toString() as IpAddress;
}

export function isIpv6(ip: IpAddress): boolean {
  return ip.includes(':');
}

/** Whether an address means something on one link only (fe80::/10), so that it needs a zone to be dialled or borrowed. */
export function isLinkLocal(ip: IpAddress): boolean {
  return /^fe[89ab]/.test(ip);
}

/** The address in network byte order: 4 or 16 numbers. */
export function ipBytes(ip: IpAddress): number[] {
  if (!isIpv6(ip)) return ip.split('.').map(Number);
  return ipaddr.parse(ip).toByteArray();
}

/** From the address in network byte order, 4 or 16 bytes; the opposite of {@link ipBytes}. */
export function ipOfBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return bytes.join('.') as IpAddress;
  return ipaddr.fromByteArray([...bytes]).toString() as IpAddress;
}

/** Parses `10.0.0.0/8`, `fd00::/8` or a bare address (a full-length prefix). Undefined if host bits are set. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (ip === undefined) return undefined;
  const bytes = ipBytes(ip);
  const bits = bytes.length * 8;
  const prefixText = slash < 0 ? String(bits) : text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(prefixText)) return undefined;
  const prefixLength = Number(prefixText);
  if (prefixLength > bits || hasHostBits(bytes, prefixLength)) return undefined;
  return { base: ip, bytes, prefixLength };
}

function hasHostBits(bytes: readonly number[], prefixLength: number): boolean {
  return bytes.some((byte, index) => (byte & ~prefixMask(prefixLength, index) & 0xff) !== 0);
}

function prefixMask(prefixLength: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefixLength - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}

export function formatCidr(cidr: Cidr): string {
  return `${cidr.base}/${cidr.prefixLength}`;
}

/** Whether the prefix contains `bytes` (see {@link ipBytes}). It never contains addresses of the other family. */
export function cidrContains(cidr: Cidr, bytes: readonly number[]): boolean {
  if (bytes.length !== cidr.bytes.length) return false;
  for (let index = 0; index * 8 < cidr.prefixLength; index++) {
    const mask = prefixMask(cidr.prefixLength, index);
    if (((bytes[index] ?? 0) & mask) !== ((cidr.bytes[index] ?? 0) & mask)) return false;
  }
  return true;
}

/** `198.18.0.1:80` or `[fd00::1]:80`. */
export function formatHostPort(target: HostPort): string {
  return isIpv6(target.ip) ? `[${target.ip}]:${target.port}` : `${target.ip}:${target.port}`;
}

/** Parses what {@link formatHostPort} writes; undefined for names, missing ports and port 0. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([1-9]\d{0,4})$/.exec(text);
  if (match === null) return undefined;
  const ip = parseIp(match[1] ?? match[2] ?? '');
  const port = Number(match[3]);
  if (ip === undefined || port > 65_535 || isIpv6(ip) !== (match[1] !== undefined)) return undefined;
  return { ip, port };
}
