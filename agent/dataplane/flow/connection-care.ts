import { takeSocketError, type Probing } from '../../native/tcp-life.js';
import { acrossHosts } from '../listen/conntrack-timeouts.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { PeerSocket } from '../relay/relay-peer.js';
import { ApplicationKeepalive } from './application-keepalive.js';
import { endLost, hasLostEntry, learnApplication } from './captured-connection.js';
import { endSilent, keepaliveSides } from './keepalive-sides.js';
import { ProbedSocket } from './probed-socket.js';
import type { Care, TrackedConnection } from './tracked-connection.js';
import { TunnelSilence } from './tunnel-silence.js';

type Ends = NonNullable<TrackedConnection['ends']>;

/** What {@link ConnectionWatch} does for one connection. Made for those that live for a round. */
export class ConnectionCare implements Care {
  readonly #connection: TrackedConnection;
  readonly #ends: Ends;
  /** Null for a stream of a tunnel. */
  readonly #source: ProbedSocket | null;
  readonly #destination: ProbedSocket | null;
  /** Of a document, for a tunnel; null: the kernel sees to it, or none says so. */
  readonly #tunnelSilence: TunnelSilence | null;
  #isHalfClosed = false;
  #keepalive: ApplicationKeepalive | null = null;

  constructor(connection: TrackedConnection, ends: Ends) {
    this.#connection = connection;
    this.#ends = ends;
    this.#source = ends.source.socket === null ? null : new ProbedSocket(ends.source.socket);
    const { pulse, limits } = connection;
    const keepalive = this.#isDialledInside ? undefined : limits?.keepalive;
    this.#destination =
      ends.destination.socket === null
        ? null
        : new ProbedSocket(ends.destination.socket, keepalive === undefined ? {} : { keepalive });
    this.#tunnelSilence = pulse === null || keepalive === undefined ? null : new TunnelSilence(pulse, keepalive);
  }

  get isFarSideGone(): boolean {
    return this.#keepalive?.isFarSideGone === true;
  }

  get isHurried(): boolean {
    return this.#keepalive?.isHurried === true || this.#tunnelSilence?.isHurried === true;
  }

  update(): void {
    for (const probed of [this.#source, this.#destination]) if (probed?.isOutlasting === true) probed.condition();
    this.#keepalive?.update();
    if (this.#tunnelSilence?.isGone() === true) endSilent(this.#connection);
  }

  probeAgain(): void {
    const { workloads } = this.#connection;
    const first = workloads[0];
    const last = workloads.at(-1);
    if (first === undefined || last === undefined) return;
    this.#source?.keepEntry(this.#sourceProbing(first));
    if (this.#isDialledInside) this.#destination?.keepEntry(this.#probingOf(last));
  }

  look(): void {
    this.#lookAtSource();
    this.#endIfBroken(this.#ends.destination.socket, this.#destination);
    if (this.#keepalive !== null || this.#isOver) return;
    const sides = keepaliveSides(this.#connection, { source: this.#source, destination: this.#destination });
    if (sides !== null) this.#keepalive = ApplicationKeepalive.follow(sides);
  }

  get #isOver(): boolean {
    return this.#ends.source.isGone || this.#ends.destination.isGone;
  }

  #lookAtSource(): void {
    const { socket: source } = this.#ends.source;
    if (source === null || source.isClosed) return;
    learnApplication(this.#connection, source);
    const isOpen = this.#endIfBroken(source, this.#source);
    if (isOpen && hasLostEntry(this.#connection, source)) endLost(this.#connection);
  }

  get #isDialledInside(): boolean {
    const { direction, path } = this.#connection.record;
    return direction === 'inbound' || path === 'local';
  }

  /**
   * A relay notices by itself where it reads: neither while it is paused, nor after the end of the other direction. Returns
   * whether one direction is open at least.
   */
  #endIfBroken(socket: PeerSocket | null, probed: ProbedSocket | null): boolean {
    if (socket === null || probed === null || socket.isClosed) return false;
    const { isOpen, isHalfClosed } = probed.condition();
    if (isHalfClosed && !this.#isHalfClosed) {
      this.#isHalfClosed = true;
      this.probeAgain();
    }
    if (isOpen) return true;
    // A connection that ended in order has none, and bytes in the kernel that the other side may still take.
    const code = takeSocketError(socket.fd);
    if (code !== null) socket.breakWith(code);
    return false;
  }

  /** Of a client on another host, its entry lasts less than two window probes may be apart once it is half-closed. */
  #sourceProbing(workload: HostedWorkload): Probing {
    const how = this.#probingOf(workload);
    if (this.#connection.record.direction === 'outbound') return how;
    return this.#isHalfClosed && this.#keepalive === null ? how : acrossHosts(how);
  }

  #probingOf({ probing }: HostedWorkload): Probing {
    return this.#isHalfClosed ? probing.halfClosed : probing.open;
  }
}
