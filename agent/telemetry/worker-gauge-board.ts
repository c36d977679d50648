import { Counter, Gauge, type Registry } from 'prom-client';
import type { WorkerGauges } from '../dataplane/messages.js';

/** The latest gauges of each data-plane worker, exported as sums. Event-loop delay is exported per worker. */
export class WorkerGaugeBoard {
  readonly #gauges = new Map<number, WorkerGauges>();
  readonly #refused: Counter<'kind'>;

  constructor(init: { readonly registry: Registry }) {
    const registers = [init.registry];
    const sum = (name: string, help: string, read: (gauges: WorkerGauges) => number): void => {
      const total = (): number => this.#sum(read);
      void new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(total());
        },
      });
    };
    sum('culvert_open_connections', 'Open connections.', (gauges) => gauges.openConnections);
    sum(
      'culvert_connections_kept',
      'Open connections that the rules deny and `onChange: keep` keeps open.',
      (gauges) => gauges.keptConnections,
    );
    sum(
      'culvert_connections_draining',
      'Open connections that the rules deny and `onChange: drain` will end soon.',
      (gauges) => gauges.drainingConnections,
    );
    sum(
      'culvert_connects_held',
      'Clients that wait in connect() until their far side is connected (`earlyAccept: false`).',
      (gauges) => gauges.heldConnects,
    );
    sum(
      'culvert_refused_connections_held',
      'Connections that were refused and are still open: of those that come faster than one in 5 ms, each is ended in its turn.',
      (gauges) => gauges.heldRefusals,
    );
    sum(
      'culvert_endpoints_ejected',
      'Endpoints that are ejected now, each counted for every thread that has ejected it.',
      (gauges) => gauges.ejectedEndpoints,
    );
    sum('culvert_open_tunnels', 'Open mutual-TLS tunnels.', (gauges) => gauges.openTunnels);
    sum('culvert_open_streams', 'Open connections inside tunnels.', (gauges) => gauges.openStreams);
    sum(
      'culvert_buffered_bytes',
      'Application bytes that wait in the agent for a slow reader.',
      (gauges) => gauges.bufferedBytes,
    );
    const gauges = this.#gauges;
    void new Gauge({
      name: 'culvert_worker_event_loop_delay_p99_seconds',
      help: 'Event-loop delay of a data-plane worker, 99th percentile of the last second.',
      labelNames: ['worker'],
      registers,
      collect() {
        this.reset();
        for (const [worker, { eventLoopDelayP99Ms }] of gauges) {
          this.set({ worker: String(worker) }, eventLoopDelayP99Ms / 1000);
        }
      },
    });
    this.#refused = new Counter({
      name: 'culvert_refused_handshakes_total',
      help: 'Peers rejected at the tunnel port before they sent a request, by cause.',
      labelNames: ['kind'],
      registers,
    });
  }

  /** Returns by how much the worker's open connections grew (negative: shrank). */
  take(workerIndex: number, gauges: WorkerGauges): number {
    const before = this.#gauges.get(workerIndex);
    for (const [kind, count] of Object.entries(gauges.refusedHandshakes)) {
      const delta = count - (before?.refusedHandshakes[kind] ?? 0);
      if (delta > 0) this.#refused.inc({ kind }, delta);
    }
    this.#gauges.set(workerIndex, gauges);
    return gauges.openConnections - (before?.openConnections ?? 0);
  }

  /** Drops a worker that died. Returns how many connections it had open. */
  drop(workerIndex: number): number {
    const open = this.#gauges.get(workerIndex)?.openConnections ?? 0;
    this.#gauges.delete(workerIndex);
    return open;
  }

  get openConnections(): number {
    return this.#sum((gauges) => gauges.openConnections);
  }

  #sum(read: (gauges: WorkerGauges) => number): number {
    let total = 0;
    for (const gauges of this.#gauges.values()) total += read(gauges);
    return total;
  }
}
