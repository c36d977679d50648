import type { ApplicationEnd } from '../../native/socket-table.js';
import type { Ending } from '../connection/ending.js';
import { ConnectionCut } from '../connection/termination-signal.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { RelayOutcome } from '../relay/relay.js';
import type { PeerSocket } from '../relay/relay-peer.js';
import type { Side } from '../relay/relay-outcome.js';
import { addressesOf } from '../sockets/socket-addresses.js';
import type { TunnelPulse } from '../tunnel/tunnel-keepalive.js';
import type { KeepaliveSides } from './application-keepalive.js';
import { applicationEnd } from './captured-connection.js';
import { PlainFarSide, TunnelFarSide, type FarSide } from './far-side.js';
import type { ProbedSocket } from './probed-socket.js';
import type { TrackedConnection } from './tracked-connection.js';

/** The sockets of a connection; null for a stream of a tunnel. */
export type ProbedSides = Readonly<Record<Side, ProbedSocket | null>>;

/**
 * The sides of a connection between an application of this host and another host; null between two applications of this
 * host, of which the kernel tells each end.
 */
export function keepaliveSides(connection: TrackedConnection, probed: ProbedSides): KeepaliveSides | null {
  const { ends, record, workloads, pulse } = connection;
  const [workload] = workloads;
  if (ends === null || record.path === 'local' || workload?.isOpen !== true) return null;
  const isOutbound = record.direction === 'outbound';
  const { socket: near } = isOutbound ? ends.source : ends.destination;
  if (near === null) return null;
  const application = isOutbound ? applicationEnd(connection) : dialledEnd(near, workload);
  const far = farSide(isOutbound ? probed.destination : probed.source, pulse);
  return application === null || far === null ? null : { near, application, far };
}

/** The end of an application that was dialled in its namespace. */
function dialledEnd(socket: PeerSocket, { sockets }: HostedWorkload): ApplicationEnd | null {
  const addresses = addressesOf(socket);
  if (addresses === null || addresses.peer === null) return null;
  return { sockets, socket: { local: addresses.peer, remote: addresses.local } };
}

function farSide(probed: ProbedSocket | null, pulse: TunnelPulse | null): FarSide | null {
  if (probed !== null) return new PlainFarSide(probed);
  return pulse === null ? null : new TunnelFarSide(pulse);
}

const silentDestination = 'the destination does not answer';

/** The other end has been silent for as long as `tcpKeepalive` of a DestinationRule says. */
export function endSilent(connection: TrackedConnection): void {
  connection.cut(new ConnectionCut({ reason: 'KEEPALIVE_TIMEOUT', detail: `${silentDestination}: tcpKeepalive` }));
}

/** A side was given up because probes went unanswered, those of an application or of a document; null for another end. */
export function explainKeepalive({ care, record, limits }: TrackedConnection, outcome: RelayOutcome): Ending | null {
  const { broken } = outcome;
  if (limits?.keepalive !== undefined && broken?.side === 'destination' && broken.detail.startsWith('ETIMEDOUT')) {
    return { reason: 'KEEPALIVE_TIMEOUT', rule: null, detail: `${silentDestination}: tcpKeepalive` };
  }
  const nearSide = record.direction === 'outbound' ? 'source' : 'destination';
  if (care?.isFarSideGone !== true || broken?.side !== nearSide) return null;
  const detail = nearSide === 'source' ? silentDestination : 'the source does not answer';
  return { reason: 'KEEPALIVE_TIMEOUT', rule: null, detail };
}
