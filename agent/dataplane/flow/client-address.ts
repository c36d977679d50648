import { formatHostPort, parseHostPort, type HostPort } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { workloadName } from '../../../shared/routing/names.js';
import type { TunnelRequest } from '../tunnel/tunnel.js';

/** The `Forwarded` header of a connection (RFC 7239, section 6), as ztunnel writes it: the client's address and port. */
export function forwardedOf(client: HostPort): string {
  return `for="${formatHostPort(client)}"`;
}

/**
 * The client that a `Forwarded` header names, where `for` comes first; null when it names none, or none with a port. Takes
 * time proportional to the text, which is a peer's.
 */
export function forwardedClient(header: string): HostPort | null {
  const match = /^for=(?:"([^"]{1,60})"|([^;,"]{1,60})(?:[;,]|$))/i.exec(header);
  return parseHostPort(match?.[1] ?? match?.[2] ?? '') ?? null;
}

/**
 * The client as records show it. The tunnel proves the workload and one of its addresses; its port is the tunnel's own, so
 * the port is the one that the other agent names. Nothing can be checked about a port, and no decision depends on it. The
 * address may be another one only if the registry has it for the same workload, so that an agent cannot put a connection
 * under the name of another workload. Otherwise the header does not count.
 */
export function clientOf(
  { peerAddress, peerIdentity, headers }: Pick<TunnelRequest, 'peerAddress' | 'peerIdentity' | 'headers'>,
  registry: { workloadAt(ip: HostPort['ip']): WorkloadEntry | undefined },
): HostPort {
  const named = forwardedClient(headers.forwarded);
  if (named === null) return peerAddress;
  if (named.ip === peerAddress.ip) return named;
  const source = ownedBy(peerIdentity, registry.workloadAt(peerAddress.ip));
  return source !== null && source === ownedBy(peerIdentity, registry.workloadAt(named.ip)) ? named : peerAddress;
}

/** The workload's name; null unless it has the identity. */
function ownedBy(identity: SpiffeId, workload: WorkloadEntry | undefined): string | null {
  return workload?.identity === identity ? workloadName(workload) : null;
}
