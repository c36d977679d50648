import { Gauge, type Registry } from 'prom-client';
import type { NodeName } from '../../shared/routing/names.js';

/** The control thread's state, read at each scrape. Times are milliseconds since the epoch. */
export type ObservedState = {
  readonly version: string;
  readonly node: NodeName;
  readonly appliedRevision: () => number | null;
  readonly enforcedRevision: () => number | null;
  /** Since the controller last confirmed the rules; null: it never did. */
  readonly rulesAgeMs: () => number | null;
  readonly isNatsConnected: () => boolean;
  readonly registryEntries: () => { readonly workloads: number; readonly services: number };
  readonly certificates: () => readonly { readonly identity: string; readonly notAfterMs: number }[];
  readonly nodeCertificateNotAfterMs: () => number | null;
  /** `unheard`: captured, and no worker listens for them. */
  readonly workloads: () => { readonly captured: number; readonly pending: number; readonly unheard: number };
  readonly workers: () => { readonly online: number; readonly wanted: number };
  readonly maxConnectionsPerWorkload: number;
  readonly maxWaitingBytesPerWorkload: number;
};

/** Registers gauges of the control thread's state, all computed at scrape time. */
export function registerStateGauges(registry: Registry, state: ObservedState): void {
  const gauge = (name: string, help: string, read: () => number | null): void => {
    void new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const value = read();
        if (value === null) this.remove();
        else this.set(value);
      },
    });
  };
  const labelled = (
    name: string,
    help: string,
    label: string,
    read: () => readonly (readonly [string, number])[],
  ): void => {
    void new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [registry],
      collect() {
        this.reset();
        for (const [value, count] of read()) this.set({ [label]: value }, count);
      },
    });
  };
  new Gauge({
    name: 'culvert_build_info',
    help: 'Always 1; version, Node.js and node name are the labels.',
    labelNames: ['version', 'runtime', 'node'],
    registers: [registry],
  }).set({ version: state.version, runtime: process.version, node: state.node }, 1);
  gauge(
    'culvert_applied_revision',
    'Revision of the rules that the control thread accepted last.',
    state.appliedRevision,
  );
  gauge('culvert_enforced_revision', 'Revision that every data-plane worker enforces.', state.enforcedRevision);
  gauge(
    'culvert_rules_age_seconds',
    'Time since the controller last said, signed, that the rules and the registry here are the newest; absent: its version never says it.',
    () => {
      const ageMs = state.rulesAgeMs();
      return ageMs === null ? null : ageMs / 1000;
    },
  );
  gauge('culvert_nats_connected', '1 while connected to NATS.', () => Number(state.isNatsConnected()));
  labelled('culvert_registry_entries', 'Entries of the registry that the agent holds.', 'kind', () => {
    const { workloads, services } = state.registryEntries();
    return [
      ['workload', workloads],
      ['service', services],
    ];
  });
  labelled('culvert_certificate_expiry_timestamp_seconds', 'When a certificate expires, by identity.', 'identity', () =>
    state.certificates().map(({ identity, notAfterMs }) => [identity, notAfterMs / 1000]),
  );
  gauge('culvert_node_certificate_expiry_timestamp_seconds', "When the node's own credentials expire.", () => {
    const notAfterMs = state.nodeCertificateNotAfterMs();
    return notAfterMs === null ? null : notAfterMs / 1000;
  });
  labelled('culvert_workloads', 'Workloads of this node, captured or still pending.', 'state', () => {
    const { captured, pending } = state.workloads();
    return [
      ['captured', captured],
      ['pending', pending],
    ];
  });
  gauge(
    'culvert_workloads_without_listeners',
    'Captured workloads that the agent has no listeners for, perhaps because another program has one of its ports: all their new connections are refused.',
    () => state.workloads().unheard,
  );
  labelled('culvert_workers', 'Data-plane workers, running and wanted.', 'state', () => {
    const { online, wanted } = state.workers();
    return [
      ['online', online],
      ['wanted', wanted],
    ];
  });
  gauge(
    'culvert_open_connections_limit',
    'Maximum number of open connections of one workload.',
    () => state.maxConnectionsPerWorkload,
  );
  gauge(
    'culvert_buffered_bytes_limit',
    'Maximum number of bytes that wait in the connections of one workload.',
    () => state.maxWaitingBytesPerWorkload,
  );
}
