import { ipBytes, isIpv6, parseIp, type IpAddress } from '../../../shared/address.js';

/**
 * The network that stands for an address outside the mesh in flow records: /24 of IPv4 and /64 of IPv6, which is the
 * smallest that is routed on its own. So a record names no person's device, and a scan is few records.
 */
export function addressClass(ip: IpAddress): string {
  if (!isIpv6(ip)) return `${ip.slice(0, ip.lastIndexOf('.'))}.0/24`;
  const bytes = ipBytes(ip);
  const groups = [0, 2, 4, 6].map((at) => (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16));
  return `${parseIp(`${groups.join(':')}::`) ?? '::'}/64`;
}
