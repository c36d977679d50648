import type { WorkloadStatus } from '../control/workloads/workload-reconciler.js';

export type PendingTask = {
  /** `joined`, `workers`, `rules`, `registry`, `nats`, `certificate/<workload>`, `capture/<workload>`. */
  readonly name: string;
  readonly detail: string;
};

export type ReadinessReport = {
  readonly isReady: boolean;
  /** What must happen before the agent protects everything that it should. */
  readonly pending: readonly PendingTask[];
  /** What is wrong although the agent serves from its last good state. */
  readonly degraded: readonly PendingTask[];
};

export type ReadinessFacts = {
  readonly isJoined: boolean;
  readonly joinProblem: string | null;
  readonly isNatsConnected: boolean;
  /** Why NATS cannot be reached; null: it is connected, or nothing is known. */
  readonly natsProblem: string | null;
  readonly appliedRevision: number | null;
  readonly enforcedRevision: number | null;
  readonly isRegistryComplete: boolean;
  /** Entries that the controller listed and that have not arrived. */
  readonly missingEntries: number;
  readonly workers: { readonly online: number; readonly wanted: number };
  readonly workloads: readonly (WorkloadStatus & {
    readonly certificateNotAfterMs: number | null;
    readonly certificateProblem: string | null;
  })[];
  /** Why the last good state could not be written to disk; null: it was. */
  readonly stateProblem: string | null;
  readonly nowMs: number;
};

/**
 * Lists what the agent still waits for. NATS is pending only until there are rules and a registry. After that its
 * absence is a degradation, because the agent serves without it.
 */
export function readiness(facts: ReadinessFacts): ReadinessReport {
  const pending: PendingTask[] = [];
  const degraded: PendingTask[] = [];
  if (!facts.isJoined) pending.push({ name: 'joined', detail: facts.joinProblem ?? 'the host has not joined yet' });
  if (facts.workers.online < facts.workers.wanted) {
    const detail = `${facts.workers.online} of ${facts.workers.wanted} data-plane workers are running`;
    (facts.workers.online === 0 ? pending : degraded).push({ name: 'workers', detail });
  }
  if (!facts.isNatsConnected) {
    const hasState = facts.appliedRevision !== null && facts.isRegistryComplete;
    const detail = hasState
      ? 'NATS is unreachable: the last good rules stay in force'
      : 'NATS is unreachable, and there are no rules yet';
    (hasState ? degraded : pending).push({ name: 'nats', detail: withProblem(detail, facts.natsProblem) });
  }
  if (facts.appliedRevision === null) pending.push({ name: 'rules', detail: 'no rules received yet' });
  else if (facts.enforcedRevision === null) {
    pending.push({ name: 'rules', detail: `revision ${facts.appliedRevision} is not in the workers yet` });
  }
  if (facts.missingEntries > 0) {
    const detail = `${facts.missingEntries} entries that the controller listed have not arrived`;
    pending.push({ name: 'registry', detail });
  } else if (!facts.isRegistryComplete) {
    pending.push({ name: 'registry', detail: 'the registry has not been received yet' });
  }
  for (const workload of facts.workloads) {
    const certificate = `certificate/${workload.name}`;
    if (workload.certificateNotAfterMs === null || workload.certificateNotAfterMs <= facts.nowMs) {
      const state = workload.certificateNotAfterMs === null ? 'it has no certificate' : 'its certificate has expired';
      pending.push({ name: certificate, detail: withProblem(state, workload.certificateProblem) });
    } else if (workload.certificateProblem !== null) {
      degraded.push({ name: certificate, detail: withProblem('not renewed', workload.certificateProblem) });
    }
    if (!workload.captured || workload.problem !== null) {
      const detail = workload.problem ?? 'its traffic is not captured yet';
      (workload.captured ? degraded : pending).push({ name: `capture/${workload.name}`, detail });
    }
  }
  if (facts.stateProblem !== null) degraded.push({ name: 'state', detail: facts.stateProblem });
  return { isReady: pending.length === 0, pending, degraded };
}

function withProblem(state: string, problem: string | null): string {
  return problem === null ? state : `${state}: ${problem}`;
}
