import type { ReportedFlow } from '../../shared/wire/flows.js';

/** The identity of a flow, held once for all hours in which it was seen. */
export type FlowName = {
  readonly key: string;
  readonly flow: ReportedFlow;
  /** How many entries refer to it. */
  uses: number;
};

/** The counters of one flow in one hour or day. */
export class FlowCounters {
  readonly name: FlowName;
  revision = 0;
  connections = 0;
  bytesSent = 0;
  bytesReceived = 0;
  firstSeenMs = Number.POSITIVE_INFINITY;
  lastSeenMs = 0;

  constructor({ name }: { readonly name: FlowName }) {
    this.name = name;
  }

  add(other: FlowNumbers): void {
    this.revision = Math.max(this.revision, other.revision);
    this.connections += other.connections;
    this.bytesSent += other.bytesSent;
    this.bytesReceived += other.bytesReceived;
    this.firstSeenMs = Math.min(this.firstSeenMs, other.firstSeenMs);
    this.lastSeenMs = Math.max(this.lastSeenMs, other.lastSeenMs);
  }
}

type FlowNumbers = Pick<
  ReportedFlow,
  'revision' | 'connections' | 'bytesSent' | 'bytesReceived' | 'firstSeenMs' | 'lastSeenMs'
>;
