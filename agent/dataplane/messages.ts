import type { MessagePort } from 'node:worker_threads';
import type { IpAddress } from '../../shared/address.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { SpiffeId } from '../../shared/identity.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import type { ClosedConnection } from './report/closed-connection.js';
import type { EjectedEndpoint, Ejection } from './report/ejections.js';
import type { LiveBytes, OpenConnections } from './report/open-connections.js';
import type { RegistryChange } from './image/registry-image.js';
import type { CapturePortName } from '../ports.js';
import type { DataplaneSettings } from './settings.js';
import type { WorkloadName, NodeName } from '../../shared/routing/names.js';

/**
 * Messages between the control thread and a data-plane worker. All are plain data (structured clone). A worker owns an
 * immutable copy of the state and replaces it when a message arrives; it never requests anything.
 */

/** `workerData` of a worker thread. */
export type WorkerInit = {
  readonly workerIndex: number;
  readonly node: NodeName;
  readonly trustDomain: string;
  readonly settings: DataplaneSettings;
};

export type ToWorker =
  | RegistryMessage
  | { readonly type: 'rules'; readonly snapshot: Snapshot }
  | CertificatesMessage
  | RulesAgeMessage
  | ProbesMessage
  | { readonly type: 'workloads'; readonly workloads: readonly LocalWorkload[] }
  /** Stop listening, refuse new streams, end what is left after `graceMs`, then exit the thread. */
  | { readonly type: 'drain'; readonly graceMs: number }
  /** Answered by `settled` when the connections of this moment have ended, or after this time. */
  | { readonly type: 'settle'; readonly withinMs: number }
  /** Answered by `dump`, for the admin endpoint. */
  | { readonly type: 'dump'; readonly id: number };

/** The messages that change the state a worker decides by. */
export type StateMessage = Extract<
  ToWorker,
  { type: 'registry' | 'rules' | 'rulesAge' | 'certificates' | 'probes' | 'workloads' }
>;

/** The registry in the form that workers receive it. */
export type RegistryCommand = RegistryChange & Pick<RegistryMessage, 'type' | 'sequence'>;
/** Brings a worker to the state that the message describes. */
export type StateCommand = Exclude<StateMessage, { type: 'registry' }> | RegistryCommand;

/** `workerData`: {@link WorkerInit} and what only the pool passes to its threads. */
export type PoolWorkerInit = WorkerInit & { readonly workers: number; readonly workloadUsage: SharedArrayBuffer };

/**
 * What a worker actually receives. It differs from {@link ToWorker} in three points: workloads have slots and sockets,
 * which only the pool knows; the registry is in shared memory; and rules are a `SnapshotPatch` against the last ones,
 * as JSON in shared memory. Copying thousands of objects to each worker would delay all traffic.
 */
export type WorkerCommand =
  | Exclude<ToWorker, { type: 'workloads' | 'rules' | 'registry' }>
  | RegistryCommand
  | WorkerLink
  /** `list`: its number, which the answers repeat. */
  | { readonly type: 'workloads'; readonly list: number; readonly workloads: readonly ServedWorkload[] }
  | { readonly type: 'rules'; readonly patch: SharedArrayBuffer };

/** Another worker has started: the way to it, for connections that one passes to the other. `port` is transferred. */
export type WorkerLink = {
  readonly type: 'link';
  readonly workerIndex: number;
  readonly port: MessagePort;
  /** One number each: how many connections the one has taken from the other. */
  readonly takenByOther: SharedArrayBuffer;
  readonly takenHere: SharedArrayBuffer;
};

/** `isFull` replaces everything. Otherwise upserts and removals (registry keys) apply to what the worker has. */
export type RegistryMessage = {
  readonly type: 'registry';
  readonly isFull: boolean;
  readonly upserts: readonly RegistryEntry[];
  readonly removals: readonly string[];
  /**
   * Addresses of entries that this agent cannot read, with the registry key of each; always all of them. Absent: as before,
   * or none if `isFull`.
   */
  readonly unreadable?: ReadonlyMap<IpAddress, string>;
  /** With this message the registry is complete as of the root with this sequence; absent while something is missing. */
  readonly sequence?: number;
};

/** `tooOld`: why every new connection is refused; null: none is for this. */
export type RulesAgeMessage = { readonly type: 'rulesAge'; readonly tooOld: string | null };

/** Where the probes of the host arrive. The sockets stay the control thread's; the first worker accepts on duplicates. */
export type ProbesMessage = { readonly type: 'probes'; readonly sockets: readonly number[] };

/**
 * Always all certificates of this node's workloads. An identity that is missing has no certificate (any more).
 */
export type CertificatesMessage = {
  readonly type: 'certificates';
  /** Only roots, PEM, concatenated. There are two while the root is being rotated. */
  readonly rootsPem: string;
  readonly certificates: readonly IdentityCertificate[];
};

export type IdentityCertificate = {
  readonly identity: SpiffeId;
  /** Leaf first, then intermediates, PEM. */
  readonly chainPem: string;
  /** PKCS#8, PEM. Never leaves the process. */
  readonly keyPem: string;
  readonly notAfterMs: number;
};

/**
 * A workload whose namespace this agent holds. The list in a message is complete: workloads that are missing are
 * released.
 */
export type LocalWorkload = {
  readonly name: WorkloadName;
  /** Absolute path of the network namespace. */
  readonly netnsPath: string;
  /** Inode of that namespace. A different inode means a new namespace under the same path. */
  readonly netnsInode: number;
  /** Connects of the workload may have to wait for their far side; absent: none has to. */
  readonly acceptsLate?: true;
  /** Rules are loaded that lead the answers to a dial from a borrowed address back to the agent; absent: not yet. */
  readonly hasRules?: true;
};

/** What a worker says of late accept in a workload's namespace. One worker of all opens it. */
export type LateAcceptState = {
  readonly isOpen: boolean;
  /** Why it cannot be opened; null: nothing failed. */
  readonly problem: string | null;
};

/** A workload with its slot in `WorkloadUsage`. */
export type SlottedWorkload = LocalWorkload & { readonly slot: number };

/** A workload as the pool passes it to the workers. */
export type ServedWorkload = SlottedWorkload & { readonly sockets: WorkloadSockets };

/**
 * The listening sockets of a workload, and the worker that accepts on them, or why there are none. They stay the control
 * thread's: the worker duplicates them, and checks that it got what it expects, because a number may be in use again by
 * then.
 */
export type WorkloadSockets =
  | {
      readonly kind: 'open';
      readonly fds: Readonly<Record<CapturePortName, readonly number[]>>;
      readonly acceptor: number;
    }
  | { readonly kind: 'failed'; readonly problem: string };

export type FromWorker =
  | { readonly type: 'online' }
  /**
   * The worker serves this workload, and listens for it if it is to accept (`error` null), or why it cannot.
   */
  | {
      readonly type: 'listening';
      /** The last list of workloads that the worker has. */
      readonly list: number;
      readonly workload: WorkloadName;
      readonly netnsInode: number;
      readonly error: string | null;
      readonly late: LateAcceptState;
    }
  /** This worker now enforces this revision, and connections that it denies have been cut. */
  | { readonly type: 'applied'; readonly revision: number }
  /** This worker now decides by the registry as of the root with this sequence. */
  | { readonly type: 'registered'; readonly sequence: number }
  | WorkerReport
  | { readonly type: 'dump'; readonly id: number; readonly state: WorkerDump }
  | { readonly type: 'settled' }
  | ({ readonly type: 'drained' } & DrainedConnections);

/** What a drain did not let end by itself. */
export type DrainedConnections = {
  /** Cut when the grace period was over. */
  readonly cut: number;
  /** Of these, how many did not end when they were cut: a defect of the agent. */
  readonly givenUp: number;
  /** The first of them. */
  readonly named: readonly ConnectionDump[];
};

/** Sent at most every 100 ms when connections closed, and every second with the rest. */
export type WorkerReport = {
  readonly type: 'report';
  readonly closed: readonly ClosedConnection[];
  /**
   * Bytes moved since the last report, so that counters advance while connections are open. Each byte is reported once:
   * what a connection moved before it closed is in an earlier report, or in the one with its {@link ClosedConnection}.
   */
  readonly live: readonly LiveBytes[];
  /** Traffic of open connections: of each after 3 s, and then once a minute; absent when there is none. */
  readonly open?: readonly OpenConnections[];
  /** Open connections of the last sweep that are in no report, without those that have closed since. */
  readonly openUnreported?: number;
  /** Endpoints that were ejected since the last report; absent: none was. */
  readonly ejections?: readonly Ejection[];
  /** Those that are ejected now; absent where none is, and in reports between two sweeps. */
  readonly ejected?: readonly EjectedEndpoint[];
  readonly gauges: WorkerGauges;
};

/** Current values of this worker. */
export type WorkerGauges = {
  readonly openConnections: number;
  /** Connections among them that the rules deny and that stay open because a rule says `onChange: keep`. */
  readonly keptConnections: number;
  /** Endpoints that this worker has ejected. */
  readonly ejectedEndpoints: number;
  /** Connections among them that a rule gives a grace period (`onChange: drain`). */
  readonly drainingConnections: number;
  /** Clients that wait in connect(2) for their far side (`earlyAccept: false`). */
  readonly heldConnects: number;
  /** Connections that were refused and are ended one after the other (`SlowEnds`). */
  readonly heldRefusals: number;
  readonly openTunnels: number;
  readonly openStreams: number;
  readonly bufferedBytes: number;
  /** 99th percentile of the event-loop delay in the last full second, in milliseconds. */
  readonly eventLoopDelayP99Ms: number;
  /** Refusals on 15008 before there was a connection to record, by cause; counted since the worker started. */
  readonly refusedHandshakes: Readonly<Record<string, number>>;
};

/** Shown by the admin endpoint; without secrets. */
export type WorkerDump = {
  readonly workerIndex: number;
  readonly revision: number | null;
  readonly registryEntries: number;
  readonly listeners: readonly { readonly workload: WorkloadName; readonly port: number }[];
  readonly tunnels: readonly TunnelDump[];
  readonly connections: readonly ConnectionDump[];
};

export type TunnelDump = {
  readonly side: 'client' | 'server';
  readonly localIdentity: string;
  readonly peerIdentity: string;
  readonly peerAddress: string;
  readonly streams: number;
  readonly openedAtMs: number;
};

export type ConnectionDump = {
  readonly traceId: string;
  readonly direction: 'outbound' | 'inbound';
  readonly path: string;
  readonly source: string;
  readonly destination: string;
  /** `SegmentationRule/name`, the rule that allowed it; null: no rule was evaluated yet. */
  readonly rule: string | null;
  /** The rules now deny it, and it is in its grace period; absent: they allow it. */
  readonly grace?: { readonly kind: 'draining' | 'kept'; readonly deniedBy: string };
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly startedAtMs: number;
};
