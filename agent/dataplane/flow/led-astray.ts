import { isIpv6, type HostPort, type IpAddress } from '../../../shared/address.js';
import { isTracked, socketAddresses } from '../../native/addon.js';
import { capturePorts } from '../../ports.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';

/** Where capture redirects an application's connection to. */
const redirectedTo = { 4: '127.0.0.1', 6: '::1' } as const;

/**
 * Whether connection tracking led a dial to the agent itself, in place of the destination. A connection that the agent reset
 * keeps its entry for ten seconds (`nf_conntrack_tcp_timeout_close`), and the kernel may give the port of its client to a dial
 * of the agent to the same destination. That dial follows the entry, is not looked at by the rules of nat, and arrives at the
 * agent, where capture refuses it. Another port has no such entry. `fd`: the socket, which has failed. Asks only connection
 * tracking, by the addresses that the dial may have come from: the socket has lost its own.
 */
export function wasLedAstray(
  fd: number,
  target: HostPort,
  { from, ownIps = [] }: { readonly from: HostedWorkload; readonly ownIps?: readonly IpAddress[] },
): boolean {
  const isSix = isIpv6(target.ip);
  const ips = ownIps.filter((ip) => isIpv6(ip) === isSix);
  const { conntrackFd } = from;
  if (conntrackFd === null || ips.length === 0) return false;
  try {
    const { port } = socketAddresses(fd).local;
    const server = { ip: redirectedTo[isSix ? 6 : 4] as IpAddress, port: capturePorts.outbound };
    return port !== 0 && ips.some((ip) => isTracked({ conntrackFd, server, client: { ip, port } }));
  } catch {
    return false;
  }
}
