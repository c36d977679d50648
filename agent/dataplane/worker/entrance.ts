import type net from 'node:net';
import { formatHostPort } from '../../../shared/address.js';
import { CulvertError } from '../../../shared/errors.js';
import { resetSocket } from '../../native/addon.js';
import type { FlowContext } from '../flow/flow-context.js';
import { serveInboundPlaintext } from '../flow/inbound-plaintext.js';
import { serveOutbound } from '../flow/outbound.js';
import { recordAcceptFailure } from '../flow/run-flow.js';
import type { AcceptScheduler } from '../limit/accept-scheduler.js';
import type { Accepted } from '../io/io-listener.js';
import { Reactor } from '../io/reactor.js';
import { ApplicationSocket } from '../relay/application-socket.js';
import { capturedDestination, type CapturedDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { OpeningOrder } from '../listen/opening-order.js';
import { WorkerLinks, type PassedConnection } from '../listen/worker-links.js';
import type { WorkerLink } from '../messages.js';
import { ignoreError } from '../sockets/ignore-error.js';
import { peerIp } from '../sockets/socket-addresses.js';
import type { WorkloadUsage } from '../workload-usage.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { TunnelRotation } from '../listen/tunnel-rotation.js';

type EntryName = PassedConnection['entry'];

const entries = { outbound: serveOutbound, inboundPlaintext: serveInboundPlaintext } as const;

/**
 * The way of a connection from its accept to the worker that serves it. One worker accepts for a workload (see
 * `WorkloadListeners`), so the order of accepts is the order in which the clients' connects returned. For applications
 * {@link OpeningOrder} keeps it from here on, and shares the work with the other workers. Tunnels have no order: those from
 * one address go to one worker after the other.
 */
export class Entrance {
  readonly #context: FlowContext;
  readonly #turns: AcceptScheduler;
  readonly #order: OpeningOrder;
  readonly #links: WorkerLinks;
  readonly #others: (slot: number) => readonly number[];
  readonly #rotation: TunnelRotation;
  readonly #serveTunnel: (workload: HostedWorkload, socket: net.Socket) => void;

  constructor(init: {
    readonly workerIndex: number;
    readonly context: FlowContext;
    readonly turns: AcceptScheduler;
    readonly usage: WorkloadUsage;
    /** Takes over the socket of another agent. */
    readonly serveTunnel: (workload: HostedWorkload, socket: net.Socket) => void;
  }) {
    const { workerIndex, context, turns, usage } = init;
    this.#context = context;
    this.#turns = turns;
    this.#serveTunnel = init.serveTunnel;
    this.#others = (slot) => [...this.#links.others].filter((worker) => usage.isServed(worker, slot));
    this.#rotation = new TunnelRotation({ own: workerIndex });
    this.#links = new WorkerLinks({
      onConnection: (connection, socket, opened) => this.#receive(connection, socket, opened),
      onTunnel: ({ workload }, socket) => this.#receiveTunnel(workload, socket),
      onFailed: ({ entry, workload }, code) => {
        const error = new CulvertError({ code, message: `taking a connection over from another worker: ${code}` });
        recordAcceptFailure(context, { name: workload }, entry, error);
      },
      onOpened: (key) => this.#order.opened(key),
      onLost: (index) => this.#order.lost(index),
    });
    this.#order = new OpeningOrder({
      own: workerIndex,
      others: this.#others,
      load: (worker, slot) => usage.connectionsAt(worker, slot),
    });
  }

  link(link: WorkerLink): void {
    this.#links.add(link);
  }

  accept(entry: EntryName, workload: HostedWorkload, accepted: Accepted): void {
    const socket = ApplicationSocket.accepted(Reactor.ofThread(), accepted.handle);
    const captured = capturedDestination(accepted, { workload, socket });
    const client = clientOf({ entry, workload: workload.name, captured });
    if (this.#links.isAlone || captured.kind !== 'redirected') {
      this.#turns.take(client, () => this.#serve(entry, workload, socket, captured));
      return;
    }
    const key = `${entry} ${workload.name} ${captured.client.ip} ${formatHostPort(captured.dialled)}`;
    const connection = { entry, workload: workload.name, captured, key };
    const opened = (): void => this.#order.opened(key);
    this.#order.take(key, workload.slot, (worker) => {
      this.#turns.take(client, () => {
        if (!this.#links.pass(worker, connection, socket)) this.#serve(entry, workload, socket, captured, opened);
      });
    });
  }

  acceptTunnel(workload: HostedWorkload, socket: net.Socket): void {
    socket.on('error', ignoreError);
    const worker = this.#rotation.next(`${workload.slot} ${peerIp(socket)}`, this.#others(workload.slot));
    if (worker !== null && this.#links.pass(worker, { entry: 'inboundTunnel', workload: workload.name }, socket))
      return;
    this.#serveTunnel(workload, socket);
  }

  /**
   * For a drain, which begins in all workers at the same time: everything that waits begins now, and here. Resolves when
   * the other workers pass no more connections to this one, or after `withinMs`.
   */
  async finish(withinMs: number): Promise<void> {
    this.#order.openAll();
    this.#turns.beginAll();
    await this.#links.finish(withinMs);
    this.#turns.beginAll();
  }

  #receive(connection: PassedConnection, socket: ApplicationSocket, opened: () => void): void {
    this.#turns.take(clientOf(connection), () => {
      const workload = this.#context.state.hosted.get(connection.workload);
      if (workload !== undefined) {
        this.#serve(connection.entry, workload, socket, connection.captured, opened);
        return;
      }
      socket.reset();
      opened();
    });
  }

  #receiveTunnel(name: WorkloadName, socket: net.Socket): void {
    socket.on('error', ignoreError);
    const workload = this.#context.state.hosted.get(name);
    if (workload === undefined) resetSocket(socket);
    else this.#serveTunnel(workload, socket);
  }

  #serve(
    entry: EntryName,
    workload: HostedWorkload,
    socket: ApplicationSocket,
    captured: CapturedDestination,
    opened?: () => void,
  ): void {
    const served = entries[entry](this.#context, workload, socket, captured);
    if (opened !== undefined) void served.then(opened, opened);
  }
}

/** Whose connections wait behind each other when there are many (see `AcceptScheduler`). */
function clientOf({ entry, workload, captured }: Omit<PassedConnection, 'key'>): string {
  return entry === 'outbound' ? workload : (captured.client?.ip ?? '');
}
