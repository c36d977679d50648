import type { NodeName, WorkloadName } from '../../shared/routing/names.js';
import { workloadName } from '../../shared/routing/names.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { Heartbeat } from '../../shared/wire/requests.js';
import type { AgentStatus } from './agent-registry.js';

/** A workload that an agent has to capture and, as far as is known, has not: no rule is enforced for it. */
export type UncapturedWorkload = {
  readonly workload: WorkloadName;
  readonly node: NodeName;
  readonly problem: string;
  /** Its agent sends heartbeats, so it will be captured soon unless the problem stays. */
  readonly isExpected: boolean;
};

export type Uncaptured = {
  /** At most {@link maxUncaptured}, those that are expected first. */
  readonly workloads: readonly UncapturedWorkload[];
  readonly total: number;
};

/** A mesh may have tens of thousands, when all of its agents are away. */
const maxUncaptured = 1000;

/** Whether the workload is among the uncaptured, or may be one of those that the list has no room for. */
export function mayBeExpected({ workloads, total }: Uncaptured, names: ReadonlySet<string>): boolean {
  const expected = workloads.filter(({ isExpected }) => isExpected);
  const isCut = expected.length === workloads.length && workloads.length < total;
  return names.size > 0 && (isCut || expected.some(({ workload }) => names.has(workload)));
}

/**
 * The registered workloads that no agent captures yet, by the last heartbeats and sorted like `entries`. Workloads without
 * a node or a network namespace are left out: no agent has to capture them.
 */
export function uncapturedWorkloads(entries: readonly RegistryEntry[], agents: readonly AgentStatus[]): Uncaptured {
  const byNode = new Map(agents.map((agent) => [agent.node, new ReportedWorkloads(agent)]));
  const found = entries.flatMap((entry): UncapturedWorkload[] => {
    if (entry.kind !== 'workload' || entry.node === null || entry.netns === null) return [];
    const { node } = entry;
    const workload = workloadName(entry);
    const reported = byNode.get(node);
    if (reported === undefined) {
      return [{ workload, node, problem: 'no agent has joined for its node', isExpected: false }];
    }
    const problem = reported.problemOf(workload);
    return problem === null ? [] : [{ workload, node, problem, isExpected: !reported.isSilent }];
  });
  const inOrder = found.sort((a, b) => Number(b.isExpected) - Number(a.isExpected));
  return { workloads: inOrder.slice(0, maxUncaptured), total: found.length };
}

type WorkloadStatus = Heartbeat['workloads'][number];

class ReportedWorkloads {
  readonly isSilent: boolean;
  readonly #byName: ReadonlyMap<string, WorkloadStatus>;

  constructor({ state, heartbeat }: AgentStatus) {
    this.isSilent = state === 'joined' || state === 'stale';
    this.#byName = new Map(heartbeat?.workloads.map((status) => [status.name, status]));
  }

  /** Null: it is captured. */
  problemOf(workload: WorkloadName): string | null {
    if (this.isSilent) return 'its agent sends no heartbeats';
    const status = this.#byName.get(workload);
    if (status === undefined) return 'its agent does not report it yet';
    return status.captured ? null : (status.problem ?? 'its traffic is not captured yet');
  }
}
