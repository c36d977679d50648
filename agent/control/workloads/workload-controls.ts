import type { WorkloadName } from '../../../shared/routing/names.js';
import type { CapturedNetns } from '../../capture/firewall/captured-netns.js';
import type { LateAcceptState, LocalWorkload } from '../../dataplane/messages.js';
import type { LedgerEntry } from './capture-ledger.js';

/** The part of WorkloadCapture that captures and releases workloads. */
export type CaptureControl = {
  /** Before it, another agent still manages the rules of this host, and nothing may be changed. */
  whenInCharge(): Promise<void>;
  apply(workload: CapturedNetns): Promise<void>;
  release(name: WorkloadName): Promise<unknown>;
  /** Stops managing this namespace for the workload. Its rules stay, and go to the workload that is applied there next. */
  letGo(name: WorkloadName, netnsInode: number): Promise<void>;
  /** What its own checks found wrong; null: nothing. */
  problemOf(name: WorkloadName): string | null;
  /** Whether it still manages this namespace, even if only to drain it. */
  isHolding(name: WorkloadName, netnsInode: number): boolean;
  /** Whether an agent's rules are in this namespace now. */
  isRuled(netnsPath: string, netnsInode: number): Promise<boolean>;
  /**
   * Loads the rules again when the agent was moved to another cgroup. Resolves with the inode of the one that they name now
   * (null: none); undefined: it was not moved.
   */
  followCgroup(): Promise<number | null | undefined>;
  /** Namespaces that an earlier run captured. Their workloads are applied, or they are removed as leftovers. */
  expect(left: readonly LedgerEntry[]): void;
  /** Removes what an earlier run of the agent left in a namespace. Finding nothing is not an error. */
  removeLeftover(leftover: LedgerEntry): Promise<void>;
};

/** The part of WorkerPool that holds listeners. */
export type ListenerControl = {
  setWorkloads(workloads: readonly LocalWorkload[]): void;
  /** Null: some worker has not answered yet. */
  listeningOf(workload: WorkloadName): {
    readonly netnsInode: number;
    readonly error: string | null;
    readonly late: LateAcceptState;
  } | null;
  /** Whether at least one worker accepts connections in the workload's namespace. */
  isListening(workload: WorkloadName): boolean;
};
