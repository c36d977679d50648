import net from 'node:net';
import type { ApplicationEnd } from '../../native/socket-table.js';
import type { Probing } from '../../native/tcp-life.js';
import type { Ending } from '../connection/ending.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { RelayOutcome, RelayPeer } from '../relay/relay.js';
import { socketAddresses } from '../sockets/socket-addresses.js';
import type { TunnelPulse } from '../tunnel/tunnel-keepalive.js';
import type { KeepaliveSides } from './application-keepalive.js';
import { applicationEnd } from './captured-connection.js';
import { PlainFarSide, TunnelFarSide, type FarSide } from './far-side.js';
import type { TrackedConnection } from './tracked-connection.js';

/** The tunnel that carries a stream. */
export type PulseOf = (stream: Exclude<RelayPeer, net.Socket>) => TunnelPulse | null;

/**
 * The sides of a connection between an application of this host and another host; null between two applications of this
 * host, of which the kernel tells each end.
 */
export function keepaliveSides(connection: TrackedConnection, pulseOf: PulseOf): KeepaliveSides | null {
  const { ends, record, workloads } = connection;
  const [workload] = workloads;
  if (ends === null || record.path === 'local' || workload?.isOpen !== true) return null;
  const { source, destination } = ends;
  const isOutbound = record.direction === 'outbound';
  const near = isOutbound ? source : destination;
  if (!(near instanceof net.Socket)) return null;
  const application = isOutbound ? applicationEnd(connection) : dialledEnd(near, workload);
  const far = isOutbound ? farSide(destination, pulseOf, null) : farSide(source, pulseOf, workload.probing);
  return application === null || far === null ? null : { near, application, far };
}

/** The end of an application that was dialled in its namespace. */
function dialledEnd(socket: net.Socket, { sockets }: HostedWorkload): ApplicationEnd | null {
  const addresses = socketAddresses(socket);
  if (addresses === null || addresses.peer === null) return null;
  return { sockets, socket: { local: addresses.peer, remote: addresses.local } };
}

function farSide(peer: RelayPeer, pulseOf: PulseOf, usual: Probing | null): FarSide | null {
  if (peer instanceof net.Socket) return new PlainFarSide({ socket: peer, usual });
  const pulse = pulseOf(peer);
  return pulse === null ? null : new TunnelFarSide(pulse);
}

/** The application reset the connection because its probes went unanswered; null for another end. */
export function explainKeepalive({ keepalive, record }: TrackedConnection, outcome: RelayOutcome): Ending | null {
  const nearSide = record.direction === 'outbound' ? 'source' : 'destination';
  if (keepalive?.isFarSideGone !== true || outcome.broken?.side !== nearSide) return null;
  const far = nearSide === 'source' ? 'destination' : 'source';
  return { reason: 'KEEPALIVE_TIMEOUT', rule: null, detail: `the ${far} does not answer` };
}
