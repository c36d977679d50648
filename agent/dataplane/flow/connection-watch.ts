import net from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { CulvertError } from '../../../shared/errors.js';
import { acceptedFd } from '../../native/addon.js';
import { setProbing, takeSocketError, tcpCondition, type Probing } from '../../native/tcp-life.js';
import { acrossHosts } from '../listen/conntrack-timeouts.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { RelayPeer } from '../relay/relay.js';
import { ApplicationKeepalive } from './application-keepalive.js';
import { endLost, hasLostEntry, learnApplication } from './captured-connection.js';
import { keepaliveSides, type PulseOf } from './keepalive-sides.js';
import type { LiveConnections } from './live-connections.js';
import type { TrackedConnection } from './tracked-connection.js';

const roundMs = 5000;
/** A connection is looked at in its first round, in the first one without a byte, and then in one of this many. */
const roundsBetweenLooks = 4;
/** Connections between two turns of the event loop. */
const sliceSize = 500;

/**
 * Looks after open connections in what only the kernel knows and does not report by itself:
 *
 * - another timeout of connection tracking: probes follow it;
 * - an entry of connection tracking that went: the connection ends as CAPTURE_LOST;
 * - a side that broke while it is not read: the connection ends like any other;
 * - an application that probes its connection: its probes reach to the far side (`application-keepalive.ts`).
 *
 * Bytes that move are proof enough, so after its first round a connection costs system calls only while it is silent.
 */
export class ConnectionWatch {
  readonly #connections: LiveConnections;
  readonly #refreshProbing: () => ReadonlySet<HostedWorkload>;
  readonly #pulseOf: PulseOf;
  #timer: NodeJS.Timeout | null;

  /** `refreshProbing` returns the workloads whose connections must be probed in another way from now on. */
  constructor(init: {
    readonly connections: LiveConnections;
    readonly refreshProbing: () => ReadonlySet<HostedWorkload>;
    readonly pulseOf: PulseOf;
  }) {
    this.#connections = init.connections;
    this.#refreshProbing = init.refreshProbing;
    this.#pulseOf = init.pulseOf;
    this.#timer = setTimeout(() => void this.#round(), roundMs);
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  async #round(): Promise<void> {
    const changed = this.#refreshProbing();
    let count = 0;
    for (const connection of this.#connections) {
      unlessClosed(() => connection.keepalive?.update());
      if (connection.ends !== null && connection.isDueForLook(roundsBetweenLooks)) look(connection, this.#pulseOf);
      // Only now: a probe that no entry translates is answered at once, and the application's socket would not be known.
      if (changed.size > 0) probeAgain(connection, changed);
      if (++count % sliceSize === 0) await setImmediate();
    }
    this.#timer?.refresh();
  }
}

function probeAgain(connection: TrackedConnection, changed: ReadonlySet<HostedWorkload>): void {
  for (const { socket, workload, probing } of entryEnds(connection)) {
    if (changed.has(workload)) onOpenSocket(socket, (fd) => setProbing(fd, probing));
  }
}

/** The sockets that live on an entry of connection tracking, and in which namespace. */
function* entryEnds({ ends, record, workloads }: TrackedConnection): Generator<{
  readonly socket: net.Socket;
  readonly workload: HostedWorkload;
  readonly probing: Probing;
}> {
  const first = workloads[0];
  const last = workloads.at(-1);
  if (ends === null || first === undefined || last === undefined) return;
  const { source, destination } = ends;
  if (source instanceof net.Socket) {
    const probing = record.direction === 'inbound' ? acrossHosts(first.probing) : first.probing;
    yield { socket: source, workload: first, probing };
  }
  const isInside = record.direction === 'inbound' || record.path === 'local';
  if (isInside && destination instanceof net.Socket) {
    yield { socket: destination, workload: last, probing: last.probing };
  }
}

function look(connection: TrackedConnection, pulseOf: PulseOf): void {
  const { ends, workloads } = connection;
  if (ends === null) return;
  const { source, destination } = ends;
  const [workload] = workloads;
  if (source instanceof net.Socket) {
    onOpenSocket(source, (fd) => {
      learnApplication(connection, source);
      const { isOpen, isHalfClosed } = tcpCondition(fd);
      if (isOpen && hasLostEntry(connection, source)) endLost(connection);
      // Its entry now lasts less than two window probes of a client on another host may be apart.
      else if (isHalfClosed && workload !== undefined && connection.keepalive === null)
        setProbing(fd, workload.probing);
    });
  }
  endIfBroken(source);
  endIfBroken(destination);
  unlessClosed(() => {
    const sides = connection.keepalive === null ? keepaliveSides(connection, pulseOf) : null;
    if (sides !== null) connection.keepalive = ApplicationKeepalive.follow(sides);
  });
}

/** Node notices by itself where it reads: neither while it is paused, nor after the end of the other direction. */
function endIfBroken(peer: RelayPeer): void {
  if (!(peer instanceof net.Socket)) return;
  onOpenSocket(peer, (fd) => {
    if (tcpCondition(fd).isOpen) return;
    // A connection that ended in order has none, and bytes in the kernel that the other side may still take.
    const code = takeSocketError(fd);
    if (code !== null) peer.destroy(Object.assign(new Error(code), { code }));
  });
}

function onOpenSocket(socket: net.Socket, step: (fd: number) => void): void {
  if (!socket.destroyed) unlessClosed(() => step(acceptedFd(socket)));
}

function unlessClosed(step: () => void): void {
  try {
    step();
  } catch (error) {
    // The kernel does not answer: a socket closes in this turn, or its workload leaves.
    if (!(error instanceof CulvertError)) throw error;
  }
}
