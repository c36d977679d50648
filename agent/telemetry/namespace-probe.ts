import { execFile } from 'node:child_process';
import { Gauge, type Registry } from 'prom-client';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';

/** Numbers of one network namespace; null where the kernel does not tell. */
export type NamespaceUse = {
  readonly conntrackEntries: number | null;
  readonly conntrackLimit: number | null;
  /** TCP sockets that hold a port: in use and in TIME_WAIT. */
  readonly tcpSockets: number | null;
  /** Ports that outgoing connections may take for themselves. */
  readonly ephemeralPorts: number | null;
};

type Target = { readonly workload: string; readonly netnsPath: string };

const intervalMs = 30_000;
const timeoutMs = 5000;
const files = [
  '/proc/sys/net/netfilter/nf_conntrack_count',
  '/proc/sys/net/netfilter/nf_conntrack_max',
  '/proc/sys/net/ipv4/ip_local_port_range',
  '/proc/net/sockstat',
] as const;

/**
 * Looks into each workload's namespace every 30 s, one after another, and shows how full its connection tracking and
 * its ports are: capture needs the one, dials the other. Both belong to the namespace, so a process has to enter it (nsenter).
 */
export class NamespaceProbe {
  readonly #targets: () => readonly Target[];
  readonly #log: Log;
  readonly #uses = new Map<string, NamespaceUse>();
  #timer: NodeJS.Timeout | null = null;
  readonly #abort = new AbortController();

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
    gauge('culvert_conntrack_limit', 'Connections that may be tracked.', (use) => use.conntrackLimit);
    gauge(
      'culvert_tcp_sockets',
      "TCP sockets of the workload's namespace, TIME_WAIT included.",
      (use) => use.tcpSockets,
    );
    gauge(
      'culvert_ephemeral_ports',
      'Local ports that dials may take, for each destination.',
      (use) => use.ephemeralPorts,
    );
  }

  start(): void {
    this.#timer = setTimeout(() => void this.#round(), intervalMs / 10);
  }

  close(): void {
    this.#abort.abort();
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #round(): Promise<void> {
    const targets = this.#targets();
    const names = new Set(targets.map((target) => target.workload));
    for (const workload of this.#uses.keys()) if (!names.has(workload)) this.#uses.delete(workload);
    for (const { workload, netnsPath } of targets) {
      if (this.#abort.signal.aborted) return;
      try {
        this.#uses.set(workload, parseNamespaceUse(await this.#read(netnsPath)));
      } catch (error) {
        this.#uses.delete(workload);
        this.#log.debug({ workload, problem: describeError(error) }, 'namespace not measured');
      }
    }
    if (!this.#abort.signal.aborted) this.#timer = setTimeout(() => void this.#round(), intervalMs);
  }

  /** `head -v` writes the name of each file above its content and goes on when one is missing (conntrack not loaded). */
  #read(netnsPath: string): Promise<string> {
    return new Promise((resolve, reject) => {
      execFile(
        'nsenter',
        [`--net=${netnsPath}`, 'head', '-v', '-n', '20', ...files],
        { timeout: timeoutMs, signal: this.#abort.signal },
        (error, stdout) => (stdout === '' && error !== null ? reject(error) : resolve(stdout)),
      );
    });
  }
}

/** Reads what `head -v` printed of the four files. */
export function parseNamespaceUse(text: string): NamespaceUse {
  const parts = text.split(/^==> (.+) <==$/m);
  const contentOf = (file: string): string => parts[parts.indexOf(file) + 1] ?? '';
  const numberOf = (file: string): number | null => {
    const match = parts.includes(file) ? /\d+/.exec(contentOf(file)) : null;
    return match === null ? null : Number(match[0]);
  };
  const range = /(\d+)\s+(\d+)/.exec(parts.includes(files[2]) ? contentOf(files[2]) : '');
  const sockets = /^TCP: inuse (\d+) orphan \d+ tw (\d+)/m.exec(parts.includes(files[3]) ? contentOf(files[3]) : '');
  return {
    conntrackEntries: numberOf(files[0]),
    conntrackLimit: numberOf(files[1]),
    tcpSockets: sockets === null ? null : Number(sockets[1]) + Number(sockets[2]),
    ephemeralPorts: range === null ? null : Number(range[2]) - Number(range[1]) + 1,
  };
}
