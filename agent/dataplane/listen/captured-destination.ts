import { isIpv6 } from '../../../shared/address.js';
import { capturePorts } from '../../ports.js';
import type { Accepted } from '../io/io-listener.js';
import type { HostedWorkload } from './hosted-workload.js';
import type { OriginalDestination, PeerAddress } from '../sockets/socket-addresses.js';

/** Where an accepted connection was going before it was redirected to one of our ports. */
export type CapturedDestination =
  /**
   * `direct`: the client dialled our own port, and nothing was redirected. `mapped`: an IPv6 packet was addressed to an
   * IPv4-mapped address (RFC 4291, section 2.5.5.2), which no kernel sends and which a dial would take for IPv4.
   */
  | {
      readonly kind: 'redirected' | 'direct' | 'mapped';
      readonly dialled: OriginalDestination;
      readonly client: PeerAddress;
    }
  | UnreadableDestination;

/** The kernel did not say. The address of our own listener is never used instead. */
export type UnreadableDestination = {
  readonly kind: 'unreadable';
  readonly dialled: OriginalDestination | null;
  readonly client: PeerAddress | null;
  /** The client closed the connection before it was accepted. */
  readonly hasLeft: boolean;
  readonly detail: string;
};

type Asked = {
  readonly workload: Pick<HostedWorkload, 'clientPort'>;
  readonly socket: { readonly fd: number };
};

/** Where nothing was redirected and connection tracking is not active. Where it is, the kernel says our own address. */
const notRedirected = 'ENOENT';

/**
 * What a listener says of a connection for which it was told to ask for `dialled`. Never throws. Without `asked`, the
 * client's port may be one that the redirect gave it.
 */
export function capturedDestination(
  { local, peer, dialled: original, hasLeft }: Pick<Accepted, 'local' | 'peer' | 'dialled' | 'hasLeft'>,
  asked: Asked | null = null,
): CapturedDestination {
  const client = hasLeft ? null : (peer as PeerAddress);
  const errno = typeof original === 'string' ? original : '';
  if (local === null) return unreadable({ client, hasLeft, detail: `reading the addresses of a socket: ${errno}` });
  if (errno !== '' && errno !== notRedirected)
    return unreadable({ client, hasLeft, detail: `reading the original destination: ${errno}` });
  const isDirect = typeof original === 'string' || (original.ip === local.ip && original.port === local.port);
  const dialled = (isDirect ? local : original) as OriginalDestination;
  if (client === null) return unreadable({ dialled, hasLeft: true });
  if (isDirect) return { kind: 'direct', dialled, client };
  if (isIpv6(dialled.ip) !== isIpv6(local.ip)) return { kind: 'mapped', dialled, client };
  return { kind: 'redirected', dialled, client: asked === null ? client : ownClient(client, asked) };
}

/** With the port that the client dialled from. It is only shown, so a fault here does not end the connection. */
function ownClient(client: PeerAddress, { workload, socket }: Asked): PeerAddress {
  try {
    const port = workload.clientPort(socket);
    return port === null || port === client.port ? client : ({ ip: client.ip, port } as PeerAddress);
  } catch {
    return client;
  }
}

function unreadable(known: Partial<UnreadableDestination>): UnreadableDestination {
  return { kind: 'unreadable', dialled: null, client: null, hasLeft: false, detail: '', ...known };
}

const ownPorts: ReadonlySet<number> = new Set(Object.values(capturePorts));

/** Whether an agent, not an application, listens on this port of a captured workload. */
export function isOwnPort(port: number): boolean {
  return ownPorts.has(port);
}
