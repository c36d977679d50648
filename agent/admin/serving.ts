import type { ListenerControl } from '../control/workloads/workload-controls.js';
import type { WorkloadStatus } from '../control/workloads/workload-status.js';

/**
 * Every workload whose namespace exists is captured and served, but for those that failed: they are tried again, and must
 * not count against the others, which need no fail-open. When all failed, nothing is served.
 */
export function isServing(workloads: readonly Pick<WorkloadStatus, 'netnsPath' | 'captured' | 'hasFailed'>[]): boolean {
  const present = workloads.filter(({ netnsPath }) => netnsPath !== null);
  if (present.length === 0) return true;
  return present.every(({ captured, hasFailed }) => captured || hasFailed) && present.some(({ captured }) => captured);
}

/**
 * Null: every workload whose namespace exists has an answer about its listeners, and those that the agent before this one
 * serves are listened for: connections that arrive are served, whether this process or the one before loaded the capture
 * rules. Where the rules of the one before are for its own sockets only, connections wait in the sockets that this process has
 * from it until it is in charge. Otherwise what is missing.
 */
export function notListening(o: {
  readonly workloads: readonly Pick<WorkloadStatus, 'name' | 'netnsPath' | 'waitsForCharge'>[];
  /** Inodes of the namespaces that the agent before this one listens in. */
  readonly servedBefore: ReadonlySet<number>;
  readonly listeningOf: ListenerControl['listeningOf'];
}): string | null {
  for (const { name, netnsPath, waitsForCharge } of o.workloads) {
    if (netnsPath === null || waitsForCharge) continue;
    const listening = o.listeningOf(name);
    if (listening === null) return `the listeners of ${name} are not open yet`;
    if (listening.error !== null && o.servedBefore.has(listening.netnsInode)) {
      return `the listeners of ${name} could not be opened: ${listening.error}`;
    }
  }
  return null;
}
