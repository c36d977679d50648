import { closeSync } from 'node:fs';
import { Gauge, type Registry } from 'prom-client';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { readProcFile } from '../native/addon.js';
import { openNetns } from '../native/netns.js';
import type { WorkloadName } from '../../shared/routing/names.js';

/** Figures of one network namespace; null where the kernel does not provide one. */
export type NamespaceUse = {
  readonly conntrackEntries: number | null;
  readonly conntrackLimit: number | null;
  /** TCP sockets that occupy a port: in use and in TIME_WAIT. */
  readonly tcpSockets: number | null;
  /** Number of local ports available to outgoing connections. */
  readonly ephemeralPorts: number | null;
};

type Target = { readonly workload: WorkloadName; readonly netnsPath: string };

const intervalMs = 30_000;
const files = {
  conntrackEntries: '/proc/sys/net/netfilter/nf_conntrack_count',
  conntrackLimit: '/proc/sys/net/netfilter/nf_conntrack_max',
  portRange: '/proc/sys/net/ipv4/ip_local_port_range',
  sockets: '/proc/thread-self/net/sockstat',
} as const;

/** Content of each file; null: it does not exist, because connection tracking is not loaded. */
export type NamespaceFiles = Readonly<Record<keyof typeof files, string | null>>;

/**
 * Reads each workload's namespace every 30 s and exports how full its connection tracking table and port range are:
 * capture needs the first, dials the second.
 */
export class NamespaceProbe {
  readonly #targets: () => readonly Target[];
  readonly #log: Log;
  readonly #uses = new Map<WorkloadName, NamespaceUse>();
  #timer: NodeJS.Timeout | null = null;

  constructor(init: { readonly registry: Registry; readonly targets: () => readonly Target[]; readonly log: Log }) {
    this.#targets = init.targets;
    this.#log = init.log;
    const uses = this.#uses;
    const gauge = (name: string, help: string, read: (use: NamespaceUse) => number | null): void => {
      void new Gauge({
        name,
        help,
        labelNames: ['workload'],
        registers: [init.registry],
        collect() {
          this.reset();
          for (const [workload, use] of uses) {
            const value = read(use);
            if (value !== null) this.set({ workload }, value);
          }
        },
      });
    };
    gauge(
      'culvert_conntrack_entries',
      "Connections tracked in the workload's namespace.",
      (use) => use.conntrackEntries,
    );
    gauge('culvert_conntrack_limit', 'Maximum number of tracked connections.', (use) => use.conntrackLimit);
    gauge(
      'culvert_tcp_sockets',
      "TCP sockets in the workload's namespace, including TIME_WAIT.",
      (use) => use.tcpSockets,
    );
    gauge('culvert_ephemeral_ports', 'Local ports available to dials, per destination.', (use) => use.ephemeralPorts);
  }

  start(): void {
    this.#timer = setTimeout(() => this.#round(), intervalMs / 10);
  }

  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #round(): void {
    const targets = this.#targets();
    const names = new Set(targets.map((target) => target.workload));
    for (const workload of this.#uses.keys()) if (!names.has(workload)) this.#uses.delete(workload);
    for (const { workload, netnsPath } of targets) {
      try {
        this.#uses.set(workload, parseNamespaceUse(readNamespaceFiles(netnsPath)));
      } catch (error) {
        this.#uses.delete(workload);
        this.#log.debug({ workload, problem: describeError(error) }, 'namespace could not be measured');
      }
    }
    this.#timer = setTimeout(() => this.#round(), intervalMs);
  }
}

/** Throws like `openNetns`. */
export function readNamespaceFiles(netnsPath: string): NamespaceFiles {
  const { fd } = openNetns(netnsPath);
  const read = (path: string): string | null => {
    try {
      return readProcFile({ netnsFd: fd, path });
    } catch (error) {
      if (error instanceof CulvertError && error.code === 'ENOENT') return null;
      throw error;
    }
  };
  try {
    return {
      conntrackEntries: read(files.conntrackEntries),
      conntrackLimit: read(files.conntrackLimit),
      portRange: read(files.portRange),
      sockets: read(files.sockets),
    };
  } finally {
    closeSync(fd);
  }
}

export function parseNamespaceUse(found: NamespaceFiles): NamespaceUse {
  const numberOf = (text: string | null): number | null => (text === null ? null : Number.parseInt(text, 10));
  const range = /(\d+)\s+(\d+)/.exec(found.portRange ?? '');
  const sockets = /^TCP: inuse (\d+) orphan \d+ tw (\d+)/m.exec(found.sockets ?? '');
  return {
    conntrackEntries: numberOf(found.conntrackEntries),
    conntrackLimit: numberOf(found.conntrackLimit),
    tcpSockets: sockets === null ? null : Number(sockets[1]) + Number(sockets[2]),
    ephemeralPorts: range === null ? null : Number(range[2]) - Number(range[1]) + 1,
  };
}
