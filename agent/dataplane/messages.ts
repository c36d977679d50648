import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { SpiffeId } from '../../shared/identity.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import type { ClosedConnection } from './report/closed-connection.js';
import type { LiveBytes, OpenConnections } from './report/open-connections.js';
import type { RegistryChange } from './image/registry-image.js';
import type { DataplaneSettings } from './settings.js';
import type { WorkloadName, NodeName } from '../../shared/routing/names.js';

/**
 * What the control thread and a data-plane worker say to each other. Everything is plain data (structured clone). A
 * worker owns an immutable copy of the state and replaces it when a message arrives; it never asks for anything.
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
  | { readonly type: 'workloads'; readonly workloads: readonly LocalWorkload[] }
  /** Stop listening, refuse new streams, end what is left after `graceMs`, then exit the thread. */
  | { readonly type: 'drain'; readonly graceMs: number }
  /** Answered by `dump`, for the admin endpoint. */
  | { readonly type: 'dump'; readonly id: number };

/** The messages that change what a worker decides by. */
export type StateMessage = Extract<ToWorker, { type: 'registry' | 'rules' | 'certificates' | 'workloads' }>;

/** The registry as workers get it. */
export type RegistryCommand = RegistryChange & { readonly type: 'registry' };
/** What brings a worker to the state that its message describes. */
export type StateCommand = Exclude<StateMessage, { type: 'registry' }> | RegistryCommand;

/** `workerData`: what the thread gets besides the public contract. */
export type PoolWorkerInit = WorkerInit & { readonly workers: number; readonly workloadUsage: SharedArrayBuffer };

/**
 * What a worker really receives: as {@link ToWorker}, with the slots that only the pool knows, the registry in shared
 * memory, and of the rules what changed since the last that it was sent: a `SnapshotPatch` as JSON in shared memory,
 * because a copy of thousands of objects for each worker would delay everybody's bytes.
 */
export type WorkerCommand =
  | Exclude<ToWorker, { type: 'workloads' | 'rules' | 'registry' }>
  | RegistryCommand
  | { readonly type: 'workloads'; readonly workloads: readonly SlottedWorkload[] }
  | { readonly type: 'rules'; readonly patch: SharedArrayBuffer };

/** `isFull` replaces everything; otherwise upserts and removals (registry keys) apply to what the worker has. */
export type RegistryMessage = {
  readonly type: 'registry';
  readonly isFull: boolean;
  readonly upserts: readonly RegistryEntry[];
  readonly removals: readonly string[];
};

/** Always all certificates of this node's workloads. An identity that is missing has none (any more). */
export type CertificatesMessage = {
  readonly type: 'certificates';
  /** Roots and nothing else, PEM, concatenated. During a rotation of the root there are two. */
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

/** A workload whose namespace this agent holds. The list in a message is complete: what is missing is let go. */
export type LocalWorkload = {
  readonly name: WorkloadName;
  /** Absolute path of the network namespace. */
  readonly netnsPath: string;
  /** Inode of that namespace; a change means a new namespace under the same path. */
  readonly netnsInode: number;
};

/** A workload with its place in `WorkloadUsage`, as the pool hands it to the workers. */
export type SlottedWorkload = LocalWorkload & { readonly slot: number };

export type FromWorker =
  | { readonly type: 'online' }
  /** The worker's listeners of this workload are open (`error` null) or could not be opened. */
  | {
      readonly type: 'listening';
      readonly workload: WorkloadName;
      readonly netnsInode: number;
      readonly error: string | null;
    }
  /** This worker now decides by this revision, and connections that it forbids are cut. */
  | { readonly type: 'applied'; readonly revision: number }
  | WorkerReport
  | { readonly type: 'dump'; readonly id: number; readonly state: WorkerDump }
  | { readonly type: 'drained' };

/** Sent at most every 100 ms when connections closed, and every second as a sweep. */
export type WorkerReport = {
  readonly type: 'report';
  readonly closed: readonly ClosedConnection[];
  /**
   * Bytes that moved since the last report, so that counters move while connections live. Each byte is told once: what
   * a connection moved before it closed is in an earlier report, or in the one that has its {@link ClosedConnection}.
   */
  readonly live: readonly LiveBytes[];
  /** What connections did that are open for a minute or more, once a minute for each; absent: none. */
  readonly open?: readonly OpenConnections[];
  readonly gauges: WorkerGauges;
};

/** Now, of this worker. */
export type WorkerGauges = {
  readonly openConnections: number;
  /** Of these: connections that the rules deny, which live on because a rule says `onChange: keep`. */
  readonly keptConnections: number;
  /** And those that a rule gives a grace period (`onChange: drain`). */
  readonly drainingConnections: number;
  readonly openTunnels: number;
  readonly openStreams: number;
  readonly bufferedBytes: number;
  /** 99th percentile of the event loop's delay in the last full second, milliseconds. */
  readonly eventLoopDelayP99Ms: number;
  /** Refusals on 15008 before there was a connection to record, by what was wrong; counted since the worker started. */
  readonly refusedHandshakes: Readonly<Record<string, number>>;
};

/** Without secrets: shown by the admin endpoint. */
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
  /** `SegmentationRule/name`, the rule that let it in; null when no rule was asked yet. */
  readonly rule: string | null;
  /** The rules deny it now, and it is in its grace period; absent when they allow it. */
  readonly grace?: { readonly kind: 'draining' | 'kept'; readonly deniedBy: string };
  readonly bytesSent: number;
  readonly bytesReceived: number;
  readonly startedAtMs: number;
};
