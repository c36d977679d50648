import { ipBytes, isIpv6, parseIp } from './address.js';

/**
 * Who an address belongs to, as far as limits go: an IPv4 address, or the /64 of an IPv6 address, because one host can use
 * any number of addresses in it.
 */
export function sourceOf(address: string): string {
  const ip = parseIp(address);
  if (ip === undefined) return address;
  return isIpv6(ip) ? ipBytes(ip).slice(0, 8).join(',') : ip;
}
