import { formatProblem } from '../../resources/kinds/problem.js';
import type { IssuerAnswer, NodeWithoutAgent, StatusAnswer, Uncaptured } from '../../api/api-types.js';
import { countText } from './amounts.js';
import { fail, warn, type Finding, type MeshCheck } from './mesh-check.js';
import { kubernetesFindings, kubernetesText } from './kubernetes-checks.js';
import { listText } from './preflight/texts.js';
import { replicaFindings, replicasText } from './replica-checks.js';
import { formatAge, formatExpiry, formatLeft, formatSkew } from './format-time.js';

export type MeshFacts = {
  readonly status: StatusAnswer;
  /** How many registered workloads each node has. */
  readonly workloadsByNode: ReadonlyMap<string, number>;
  /** The registered workloads that no agent is known to capture; null: the controller does not say. */
  readonly uncaptured: Uncaptured | null;
  /** Version of the `culvert` command. */
  readonly version: string;
  readonly nowMs: number;
};

type Agent = StatusAnswer['agents'][number];

const issuingCaWarningMs = 30 * 86_400_000;
/**
 * Certificates are renewed at half of their lifetime, so the newest in a healthy mesh has at least half of it left. A
 * certificate with less than this part of the newest one's remaining time was not renewed.
 */
const overdueBelow = 0.2;

/**
 * Checks the health of a mesh from the controller's status: one result for each check that passes, and one for each single
 * finding. In the order in which a person would look.
 */
export function checkMesh(facts: MeshFacts): MeshCheck[] {
  return [
    ...group('controller', 'the controller is ready', controllerFindings(facts)),
    ...replicaChecks(facts),
    ...group('issuing CA', 'the issuing CA is valid', caFindings(facts)),
    ...group('nodes', 'every node that has workloads has an agent', nodeFindings(facts)),
    ...group('agents', 'every agent enforces the current revision', agentsFindings(facts)),
    ...group('workloads', capturedText(facts), workloadFindings(facts)),
    ...group('certificates', 'no certificate is about to expire', certificateFindings(facts)),
    ...group('clocks', 'the clocks agree', facts.status.agents.flatMap(clockFindings)),
    ...group('versions', 'all programs have the same version', versionFindings(facts)),
    ...group('rules', 'no rule is suspicious', ruleFindings(facts)),
    ...kubernetesChecks(facts.status),
  ];
}

/** A controller without a lease expects no other. */
function replicaChecks({ status: { replicas }, nowMs }: MeshFacts): MeshCheck[] {
  return replicas == null ? [] : group('replicas', replicasText(replicas, nowMs), replicaFindings(replicas));
}

function kubernetesChecks({ kubernetes: state, agents }: StatusAnswer): MeshCheck[] {
  if (state == null) return [];
  const current = agents.filter(hasCurrentHeartbeat);
  return group('kubernetes', kubernetesText(state, current), kubernetesFindings(state, current));
}

function group(check: string, okMessage: string, findings: readonly Finding[]): MeshCheck[] {
  if (findings.length === 0) return [{ check, state: 'ok', message: okMessage, hint: '' }];
  return findings.map((finding) => ({ check, ...finding }));
}

function controllerFindings({ status }: MeshFacts): Finding[] {
  const { pending, pendingDetails = {} } = status.controller;
  return pending.map((task) => {
    const detail = pendingDetails[task];
    const what = detail === undefined ? task : `${task}: ${detail}`;
    return fail(`the controller is waiting for ${what}`, 'check its log and its /readyz');
  });
}

function caFindings({ status, nowMs }: MeshFacts): Finding[] {
  const { issuingCaNotAfter, issuer } = status.controller;
  const notAfterMs = Date.parse(issuingCaNotAfter);
  const problems = issuer == null ? [] : issuerFindings(issuer, nowMs);
  if (notAfterMs - nowMs > issuingCaWarningMs) return problems;
  const when = formatExpiry(notAfterMs, nowMs);
  const hint =
    issuer == null
      ? 'restart the controller, which creates a new one, and check its log'
      : `give ${issuer.place} another CA; the controller takes it by itself where it is under a root that agents trust`;
  const expiring =
    notAfterMs <= nowMs ? fail(`the issuing CA ${when}`, hint) : warn(`the issuing CA expires ${when}`, hint);
  return [...problems, expiring];
}

function issuerFindings(issuer: IssuerAnswer, nowMs: number): Finding[] {
  const problem = issuer.problem === null ? [] : [fail(issuerText(issuer, nowMs), 'see issuers.md, and its own log')];
  if (issuer.hasNamedRoots !== false) return problem;
  const hint =
    'compare the root in culvert ca status with the one that it should have, write it into a file, and name that: --issuer-roots-file';
  return [
    ...problem,
    warn(`the root of ${issuer.place} is the one that it gave at the first start; no file confirms it`, hint),
  ];
}

function issuerText({ place, problem, problemSince }: IssuerAnswer, nowMs: number): string {
  const age = problemSince === null ? '' : `, first seen ${formatAge(Date.parse(problemSince), nowMs)}`;
  return `${place} does not sign as it should${age}; certificates that are not renewed run out: ${problem ?? ''}`;
}

function nodeFindings(facts: MeshFacts): Finding[] {
  return withoutAgent(facts).map(({ node, workloads: count, why }) => {
    const workloads = `${count} ${count === 1 ? 'workload is' : 'workloads are'} on ${node}`;
    if (why === 'removed') {
      const hint = `when nothing answers at ${count === 1 ? 'its' : 'their'} addresses any more, delete ${count === 1 ? 'the Workload' : 'the Workloads'}, or move ${count === 1 ? 'it' : 'them'} to another node`;
      return warn(
        `${workloads}, a node that was removed: other agents send to such workloads only through tunnels`,
        hint,
      );
    }
    const message = `${workloads}, which has no agent: neither encrypted nor subject to rules`;
    if (why === 'expected') return warn(message, 'its join token was not used yet: join the host');
    return fail(
      message,
      `join it: culvert token create --node ${node}, or correct the node in ${count === 1 ? 'the Workload' : 'the Workloads'}`,
    );
  });
}

type Without = { readonly node: string; readonly workloads: number; readonly why: NodeWithoutAgent['why'] };

/** A controller of an earlier version does not say: then those without an agent are all that workloads name and do not report. */
function withoutAgent({ status, workloadsByNode }: MeshFacts): readonly Without[] {
  if (status.nodesWithoutAgent !== undefined) return status.nodesWithoutAgent;
  const joined = new Set<string>(status.agents.map(({ node }) => node));
  const removed = new Set(status.removedNodes);
  return [...workloadsByNode]
    .filter(([node]) => !joined.has(node))
    .map(([node, workloads]) => ({ node, workloads, why: removed.has(node) ? 'removed' : 'unknown' }));
}

function agentsFindings({ status: { agents, kubernetes }, workloadsByNode }: MeshFacts): Finding[] {
  // Nodes with workloads and no agent are findings of their own.
  if (agents.length > 0 || workloadsByNode.size > 0) {
    const found = agents.flatMap((agent) => agentFindings(agent));
    return [...found, ...weaknessFindings(agents, kubernetes != null), ...oldFindings(agents)];
  }
  const message = 'no agent has joined: no connection is encrypted or subject to rules';
  return [warn(message, 'join a host: culvert token create --node NODE')];
}

const refusalHint =
  'if an older backup of the controller was restored, run culvert advance; if not, check whether NATS was tampered with';

/**
 * One finding for each kind: hosts of one make lack the same. `hasCluster`: a check of its own says what is wrong with the CNI
 * plugin.
 */
function weaknessFindings(agents: readonly Agent[], hasCluster: boolean): Finding[] {
  const nodes = new Map<string, string[]>();
  for (const agent of agents.filter(hasCurrentHeartbeat)) {
    for (const text of agent.heartbeat?.weaknesses ?? []) {
      if (hasCluster && text === agent.heartbeat?.cniProblem) continue;
      nodes.set(text, [...(nodes.get(text) ?? []), agent.node]);
    }
  }
  return [...nodes].map(([text, names]) => {
    const verb = names.length === 1 ? 'protects' : 'protect';
    return warn(`${listText(names)} ${verb} less than others: ${text}`, 'see security.md, "What a host has"');
  });
}

/** Agents of earlier versions go on without what they do not know of documents about traffic. */
function oldFindings(agents: readonly Agent[]): Finding[] {
  return agents.filter(hasCurrentHeartbeat).flatMap(({ node, heartbeat }) => {
    const { passedOver = [] } = heartbeat ?? {};
    if (passedOver.length === 0) return [];
    const what = `${node} is too old for ${passedOver.join(', ')} of the rules, and goes on without`;
    return [warn(what, 'update the agent there')];
  });
}

function agentFindings({ node, state, heartbeat, revisionLag }: Agent): Finding[] {
  const alarm = heartbeat?.rulesAlarm;
  if (alarm !== undefined) {
    return [fail(`${node} rejects the rules in NATS: ${alarm}`, refusalHint)];
  }
  if (state === 'ahead') {
    const { appliedRevision, registrySequence } = heartbeat ?? {};
    const held = `revision ${appliedRevision ?? 0} with inventory ${registrySequence ?? 0}`;
    return [fail(`${node} holds ${held}, which this controller has not made, and refuses older ones`, refusalHint)];
  }
  const refused = heartbeat?.registryAlarm;
  if (refused !== undefined && state !== 'stopped' && state !== 'stale') {
    return [fail(`${node} rejects part of the registry in NATS: ${refused}`, refusalHint)];
  }
  const age = heartbeat?.rulesAgeProblem;
  if (age !== undefined && state !== 'stopped' && state !== 'stale') {
    return [fail(`${node}: ${age}`, 'check the link of that host to NATS, and the clocks of host and controller')];
  }
  if (state === 'joined') return [fail(`${node} has sent no heartbeat since it joined`, 'start culvert-agent there')];
  if (state === 'stopped') return [fail(`the agent of ${node} was stopped`, 'start culvert-agent there')];
  if (state === 'stale') return [fail(`${node} no longer sends heartbeats`, 'check that culvert-agent runs there')];
  if (state === 'behind') {
    return [
      fail(
        `${node} is ${revisionLag === null ? 'some revisions' : countText(revisionLag, 'revision')} behind`,
        'wait for it: culvert rollout status --wait 30s',
      ),
    ];
  }
  const pending = heartbeat?.pending ?? [];
  if (state === 'pending' && pending.length === 0) {
    return [fail(`${node} has no rules yet and refuses all connections`, 'check the log of culvert-agent there')];
  }
  return pending.map((task) => fail(`${node} is waiting for ${task}`, 'check the log of culvert-agent there'));
}

/** The last heartbeat of a silent agent is out of date. */
function hasCurrentHeartbeat({ state }: Agent): boolean {
  return state !== 'stale' && state !== 'stopped' && state !== 'joined';
}

/** Of the workloads of other nodes, the checks of nodes and agents say that nothing is known. */
function capturedText({ status, uncaptured }: MeshFacts): string {
  if (status.agents.length === 0) return 'no workload is on a node that has an agent';
  const isAllKnown = uncaptured?.workloads.every(({ isExpected }) => isExpected) ?? true;
  return isAllKnown ? 'every workload is captured' : 'every workload on a node whose agent reports is captured';
}

function workloadFindings({ status, uncaptured }: MeshFacts): Finding[] {
  const current = status.agents.filter(hasCurrentHeartbeat);
  const reported = current.flatMap(({ node, heartbeat }) =>
    (heartbeat?.workloads ?? []).map((workload) => ({ ...workload, node })),
  );
  const names = new Set(reported.map(({ name }) => name));
  const unreported = (uncaptured?.workloads ?? []).filter(
    ({ workload, isExpected }) => isExpected && !names.has(workload),
  );
  const wrong = [
    ...reported.filter(({ captured, problem }) => !captured || problem !== null),
    ...unreported.map(({ workload: name, node, problem }) => ({ name, node, problem })),
  ];
  return wrong.map(({ name, node, problem }) =>
    fail(`${name} on ${node}: ${problem ?? 'not captured'}`, `see its workloads: culvert nodes ${node}`),
  );
}

function certificateFindings({ status, nowMs }: MeshFacts): Finding[] {
  const held = status.agents.flatMap((agent) =>
    (agent.heartbeat?.workloads ?? []).flatMap(({ name, certificateNotAfterMs: notAfterMs }) =>
      notAfterMs === null ? [] : [{ name, node: agent.node, notAfterMs, isCurrent: hasCurrentHeartbeat(agent) }],
    ),
  );
  // A silent agent may have renewed what it reported last, unless it is cut off: only what has expired since is certain.
  const certificates = held.filter(({ isCurrent, notAfterMs }) => isCurrent || notAfterMs <= nowMs);
  const freshestMs = held
    .filter(({ isCurrent }) => isCurrent)
    .reduce((most, { notAfterMs }) => Math.max(most, notAfterMs - nowMs), 0);
  return certificates
    .filter(({ notAfterMs }) => notAfterMs - nowMs <= freshestMs * overdueBelow)
    .map(({ name, node, notAfterMs }) => {
      const message = `the certificate of ${name} on ${node} expires ${formatExpiry(notAfterMs, nowMs)}`;
      const hint =
        'it should have been renewed at half of its lifetime: check the logs of the agent and the controller';
      const expired = `the certificate of ${name} on ${node} ${formatExpiry(notAfterMs, nowMs)}`;
      return notAfterMs <= nowMs ? fail(expired, hint) : warn(message, hint);
    });
}

function clockFindings({ node, isClockWrong, clockSkewMs }: Agent): Finding[] {
  if (!isClockWrong) return [];
  const message = `the clock of ${node} differs from the controller's by ${formatSkew(clockSkewMs)}`;
  return [warn(message, 'certificates and expiring rules depend on it: synchronise its time, for example with chrony')];
}

function versionFindings({ status, version }: MeshFacts): Finding[] {
  const { controller, agents } = status;
  const ofAgents = agents
    .filter(({ heartbeat }) => heartbeat !== null && heartbeat.version !== controller.version)
    .map(({ node, heartbeat }) =>
      warn(
        `${node} runs ${heartbeat?.version ?? ''}, the controller ${controller.version}`,
        'upgrade to the same version, the controller first',
      ),
    );
  if (version === controller.version) return ofAgents;
  const message = `this command is ${version}, the controller ${controller.version}`;
  return [...ofAgents, warn(message, "use the culvert command of the controller's version")];
}

function ruleFindings({ status }: MeshFacts): Finding[] {
  const emergencyRules = new Set(status.breakGlass.map(({ name }) => `SegmentationRule/${name}`));
  const warnings = status.warnings
    // An emergency rule is meant to expire.
    .filter(({ resource, path }) => path !== 'spec.expiresAt' || !emergencyRules.has(resource ?? ''))
    .map((problem) => warn(formatProblem({ ...problem, hint: '' }), problem.hint));
  const emergencies = status.breakGlass.map(({ name, leftMs }) =>
    warn(
      `break-glass rule ${name} is in force for another ${formatLeft(leftMs)}`,
      'delete it when it is no longer needed',
    ),
  );
  return [...warnings, ...emergencies];
}
