import type { RefusalAlarms } from '../control/followers/registry-refusals.js';
import { refusalsOf, withProblem, type ProtectedWorkload } from '../control/workloads/refusals.js';

export type PendingTask = {
  /** `joined`, `workers`, `rules`, `registry`, `nats`, `registry/<workload>`, `certificate/<workload>`, …. */
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
  /** Entries of a newer controller that this agent cannot read. */
  readonly unreadableEntries: number;
  readonly workers: { readonly online: number; readonly wanted: number };
  readonly workloads: readonly ProtectedWorkload[];
  /** Null: there is nothing yet that could be refused. */
  readonly alarms: RefusalAlarms | null;
  /** Why the rules in force may be old; null: nothing says that they are. */
  readonly rulesAgeProblem: string | null;
  /** New connections are refused for that. */
  readonly isRefusingOldRules: boolean;
  /** Why the node's own credentials were not renewed; null: they were. */
  readonly credentialsProblem: string | null;
  /** What is wrong with the host's rules for probes; null: nothing. */
  readonly hostRulesProblem: string | null;
  /** Why other sockets on the agent's ports may get connections; null: they get none. */
  readonly guardProblem: string | null;
  /** Why a process with CAP_NET_RAW can leave capture; null: it cannot. */
  readonly exemptionProblem: string | null;
  /** Why a new namespace may be found late; null: it is seen at once. */
  readonly watchProblem: string | null;
  /** Why the last good state could not be written to disk; null: it was. */
  readonly stateProblem: string | null;
  /** Why no other process can take over from this agent; null: one can. */
  readonly successionProblem: string | null;
  /** Why metrics or health are served nowhere; null: they are served. */
  readonly endpointProblem: string | null;
  /** Why descriptors run out in ordinary use; null: they do not. */
  readonly filesProblem: string | null;
  /** Why the fail mode has no effect; null: it has. */
  readonly failModeProblem: string | null;
  readonly nowMs: number;
};

/**
 * Lists what the agent still waits for. Whatever makes every new connection of a workload be refused now, or pass
 * unprotected, is pending, whether NATS is connected or not. NATS is pending only until there are rules and a registry.
 * After that its absence is a degradation, because the agent serves without it.
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
  if (facts.unreadableEntries > 0) {
    const detail = `${facts.unreadableEntries} entries of a newer controller cannot be read, and connections to and from their new addresses are refused: upgrade this agent`;
    pending.push({ name: 'registry', detail });
  } else if (facts.missingEntries > 0) {
    const detail = `${facts.missingEntries} entries that the controller listed have not arrived`;
    pending.push({ name: 'registry', detail });
  } else if (!facts.isRegistryComplete) {
    pending.push({ name: 'registry', detail: 'the registry has not been received yet' });
  }
  for (const workload of facts.workloads) {
    const refusals = refusalsOf(workload, facts.nowMs);
    for (const { part, detail } of refusals) pending.push({ name: `${part}/${workload.name}`, detail });
    const has = (part: string): boolean => refusals.some((refusal) => refusal.part === part);
    if (workload.certificateProblem !== null && !has('certificate')) {
      degraded.push({
        name: `certificate/${workload.name}`,
        detail: withProblem('not renewed', workload.certificateProblem),
      });
    }
    if (workload.addressProblem !== null) {
      degraded.push({ name: `address/${workload.name}`, detail: workload.addressProblem });
    }
    if (workload.lateAcceptProblem !== null) {
      degraded.push({ name: `late-accept/${workload.name}`, detail: workload.lateAcceptProblem });
    }
    if (workload.problem !== null && !has('capture') && !has('listener')) {
      degraded.push({ name: `capture/${workload.name}`, detail: workload.problem });
    }
  }
  const { rulesAlarm = null, registryAlarm = null } = facts.alarms ?? {};
  if (rulesAlarm !== null) degraded.push({ name: 'rules', detail: withProblem('new ones are refused', rulesAlarm) });
  if (registryAlarm !== null) {
    degraded.push({ name: 'registry', detail: withProblem('something new in it is refused', registryAlarm) });
  }
  if (facts.rulesAgeProblem !== null) {
    (facts.isRefusingOldRules ? pending : degraded).push({ name: 'rules-age', detail: facts.rulesAgeProblem });
  }
  if (facts.credentialsProblem !== null) {
    degraded.push({ name: 'credentials', detail: withProblem('not renewed', facts.credentialsProblem) });
  }
  if (facts.hostRulesProblem !== null) degraded.push({ name: 'capture', detail: facts.hostRulesProblem });
  if (facts.guardProblem !== null) degraded.push({ name: 'capture', detail: facts.guardProblem });
  if (facts.exemptionProblem !== null) degraded.push({ name: 'capture', detail: facts.exemptionProblem });
  if (facts.watchProblem !== null) degraded.push({ name: 'namespaces', detail: facts.watchProblem });
  if (facts.stateProblem !== null) degraded.push({ name: 'state', detail: facts.stateProblem });
  if (facts.successionProblem !== null) {
    const detail = 'no other process can take over from this agent, so connections are refused when it is replaced';
    degraded.push({ name: 'succession', detail: withProblem(detail, facts.successionProblem) });
  }
  if (facts.endpointProblem !== null) degraded.push({ name: 'endpoints', detail: facts.endpointProblem });
  if (facts.filesProblem !== null) degraded.push({ name: 'files', detail: facts.filesProblem });
  if (facts.failModeProblem !== null) degraded.push({ name: 'fail-mode', detail: facts.failModeProblem });
  return { isReady: pending.length === 0, pending, degraded };
}
