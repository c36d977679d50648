import { type HostPort, type IpAddress } from '../shared/address.js';

/**
 * Where a self-test dials: documentation addresses (RFC 5737 TEST-NET-1, RFC 3849), which no host has, and a port that
 * nothing else uses. Only the agent's own listener on 15001 can answer there, and it does so by closing at once.
 */
export const selfTestTargets = {
  4: { ip: '192.0.2.1' as IpAddress, port: 15_099 },
  6: { ip: '2001:db8::1' as IpAddress, port: 15_099 },
} as const satisfies Record<4 | 6, HostPort>;

/**
 * Whether a connection that was redirected to 15001 is the agent's own self-test. The data plane closes it at once,
 * without a record.
 */
export function isSelfTest(originalDst: HostPort): boolean {
  return Object.values(selfTestTargets).some(({ ip, port }) => originalDst.ip === ip && originalDst.port === port);
}
