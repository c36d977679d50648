import type { AgentSettings } from '../config/agent-settings.js';
import type { EnrolmentFollower } from './followers/enrolment-follower.js';
import type { CaptureLedger } from './workloads/capture-ledger.js';
import type { NodeCredentials } from './credentials/node-credentials.js';
import type { WorkerPool } from '../dataplane/pool/worker-pool.js';
import type { AgentMetrics } from '../telemetry/agent-metrics.js';
import type { Log } from '../../shared/log.js';
import type { Heartbeat } from '../../shared/wire/requests.js';
import type { CaptureControl } from './workloads/workload-controls.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { StateDirectory } from './state/state-directory.js';

/** What `ControlPlane` needs from the rest of the agent. */
/** The answer to `culvert-agent join` of the agent that runs. */
export type Rejoined = {
  /** False: a part of the credentials takes effect with the next start only. */
  readonly isComplete: boolean;
};

export type ControlPlaneInit = {
  readonly settings: AgentSettings;
  readonly node: NodeName;
  readonly version: string;
  readonly startedAtMs: number;
  readonly credentials: NodeCredentials;
  readonly directory: StateDirectory;
  /** Null: no CNI plugin asks this agent. The caller's to restore; it is closed here. */
  readonly enrolment: EnrolmentFollower | null;
  readonly ledger: CaptureLedger;
  readonly pool: WorkerPool;
  readonly capture: CaptureControl;
  readonly ownInode: number;
  /** Inode of the cgroup in which the agent's sockets are made; null: none of its own. */
  readonly ownCgroup: number | null;
  readonly metrics: AgentMetrics;
  readonly log: Log;
  /** What heartbeats say of the agent as a whole. */
  readonly said: () => Pick<Heartbeat, 'pending' | 'weaknesses' | 'hostProbes' | 'cniProblem' | 'ejected'>;
  /** See `RootsRecovery`. */
  readonly onOtherKeys: () => void;
  /** What is captured may have changed. */
  readonly onWorkloads: () => void;
};
