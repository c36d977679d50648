import type { NodeName, WorkloadName } from '../../shared/routing/names.js';
import { workloadName } from '../../shared/routing/names.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { Heartbeat } from '../../shared/wire/requests.js';
import type { AgentStatus } from './agent-registry.js';

/**
 * A workload that an agent has to capture and, as far as is known, has not, so no rule is enforced for it; or that is captured
 * and not served, so its connections are refused.
 */
export type UncapturedWorkload = {
  readonly workload: WorkloadName;
  readonly node: NodeName;
  readonly problem: string;
  /** Its agent sends heartbeats, or has joined and is about to: it will be captured soon unless the problem stays. */
  readonly isExpected: boolean;
};

export type Uncaptured = {
  /** At most {@link maxUncaptured}, those that are expected first. */
  readonly workloads: readonly UncapturedWorkload[];
  readonly total: number;
};

/** A mesh may have tens of thousands, when all of its agents are away. */
const maxUncaptured = 1000;

/** Whether one of these workloads is among the uncaptured, or may be one of those that the list has no room for. */
export function mayBeUncaptured({ workloads, total }: Uncaptured, names: ReadonlySet<string>): boolean {
  return names.size > 0 && (workloads.length < total || workloads.some(({ workload }) => names.has(workload)));
}

/** The same, without those whose agent is silent or missing. */
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
  return listed(entries, agents, ({ workload, node, reported }) => {
    if (reported === undefined) {
      return { workload, node, problem: 'no agent has joined for its node', isExpected: false };
    }
    const problem = reported.problemOf(workload);
    return problem === null ? null : { workload, node, problem, isExpected: reported.isExpected };
  });
}

/**
 * The captured workloads whose connects to ports with `earlyAccept: false` are accepted early all the same, sorted like
 * `entries`. Those of silent agents are left out, because nothing is known of them.
 */
export function earlyAcceptedWorkloads(entries: readonly RegistryEntry[], agents: readonly AgentStatus[]): Uncaptured {
  // Mostly none, and the question comes several times a second.
  const concerned = agents.filter(({ heartbeat }) => heartbeat?.workloads.some((status) => status.lateAcceptProblem));
  if (concerned.length === 0) return { workloads: [], total: 0 };
  return listed(entries, concerned, ({ workload, node, reported }) => {
    const problem = reported?.lateAcceptProblemOf(workload) ?? null;
    return problem === null ? null : { workload, node, problem, isExpected: true };
  });
}

/**
 * The captured and served workloads of which their agents say that something is wrong all the same, such as a registered address
 * that the namespace does not have; sorted like `entries`.
 */
export function troubledWorkloads(entries: readonly RegistryEntry[], agents: readonly AgentStatus[]): Uncaptured {
  const concerned = agents.filter(({ heartbeat }) => heartbeat?.workloads.some(({ problem }) => problem !== null));
  if (concerned.length === 0) return { workloads: [], total: 0 };
  return listed(entries, concerned, ({ workload, node, reported }) => {
    if (reported === undefined || reported.problemOf(workload) !== null) return null;
    const problem = reported.remarkOf(workload);
    return problem === null ? null : { workload, node, problem, isExpected: true };
  });
}

/** Why the agent of a workload does not capture and serve it now, by its last heartbeat; null: it does. */
export function unservedProblem(workload: WorkloadName, agent: AgentStatus): string | null {
  return new ReportedWorkloads(agent).problemOf(workload);
}

type Asked = {
  readonly workload: WorkloadName;
  readonly node: NodeName;
  readonly reported: ReportedWorkloads | undefined;
};

function listed(
  entries: readonly RegistryEntry[],
  agents: readonly AgentStatus[],
  judge: (asked: Asked) => UncapturedWorkload | null,
): Uncaptured {
  const byNode = new Map(agents.map((agent) => [agent.node, new ReportedWorkloads(agent)]));
  const found = entries.flatMap((entry): UncapturedWorkload[] => {
    if (entry.kind !== 'workload' || entry.node === null || entry.netns === null) return [];
    const { node } = entry;
    const judged = judge({ workload: workloadName(entry), node, reported: byNode.get(node) });
    return judged === null ? [] : [judged];
  });
  const inOrder = found.sort((a, b) => Number(b.isExpected) - Number(a.isExpected));
  return { workloads: inOrder.slice(0, maxUncaptured), total: found.length };
}

type WorkloadStatus = Heartbeat['workloads'][number];

class ReportedWorkloads {
  readonly isExpected: boolean;
  readonly #state: AgentStatus['state'];
  readonly #byName: ReadonlyMap<string, WorkloadStatus>;

  constructor({ state, heartbeat }: AgentStatus) {
    this.#state = state;
    this.isExpected = state !== 'stale' && state !== 'stopped';
    this.#byName = new Map(heartbeat?.workloads.map((status) => [status.name, status]));
  }

  /** Null: it is captured and served. */
  problemOf(workload: WorkloadName): string | null {
    if (this.#state === 'joined') return 'not reported yet: its agent has sent no heartbeat since it joined';
    if (this.#state === 'stale')
      return 'its agent sends no heartbeats; what it captured keeps the rules it has, or is refused';
    if (this.#state === 'stopped') return 'its agent was stopped; what it captured is refused until it is back';
    const status = this.#byName.get(workload);
    if (status === undefined) return 'not reported yet by its agent';
    if (!status.captured) return status.problem ?? 'its traffic is not captured yet';
    return status.isUnserved === true ? (status.problem ?? 'its connections are refused') : null;
  }

  /** Of one that is captured and served; null: nothing is wrong. */
  remarkOf(workload: WorkloadName): string | null {
    return this.#byName.get(workload)?.problem ?? null;
  }

  /** Null: its connects are accepted late, or that is unknown. */
  lateAcceptProblemOf(workload: WorkloadName): string | null {
    if (this.#state === 'joined' || this.#state === 'stale' || this.#state === 'stopped') return null;
    return this.#byName.get(workload)?.lateAcceptProblem ?? null;
  }
}
