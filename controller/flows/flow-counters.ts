import type { ReportedFlow } from '../../shared/wire/flows.js';

/** What makes two flows one, held once for all the hours in which it was seen. */
export type FlowName = {
  readonly key: string;
  readonly flow: ReportedFlow;
  /** Entries that hold it. */
  uses: number;
};

/** The numbers of one flow in one bucket. */
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
