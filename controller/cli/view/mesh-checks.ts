import { formatProblem } from '../../resources/kinds/problem.js';
import type { StatusAnswer } from '../../api/api-types.js';
import { formatExpiry, formatSkew, formatSpan } from './format-time.js';

/** `warn` is for what works now and will not, or not as somebody meant it; `fail` is for what does not work. */
export type CheckState = 'ok' | 'warn' | 'fail';

export type MeshCheck = {
  /** What was looked at: `controller`, `agents`, `rules`… Stable, for programs. */
  readonly check: string;
  readonly state: CheckState;
  readonly message: string;
  /** What to do; empty when all is well. */
  readonly hint: string;
};

export type MeshFacts = {
  readonly status: StatusAnswer;
  /** Names of the nodes that registered workloads are on, and how many each has. */
  readonly workloadsByNode: ReadonlyMap<string, number>;
  /** Version of the program that asks. */
  readonly version: string;
  readonly nowMs: number;
};

type Agent = StatusAnswer['agents'][number];

const issuingCaWarningMs = 30 * 86_400_000;
/**
 * Certificates are renewed at half of their life, so the freshest of a well mesh has at least half of it left: one with
 * less than this part of what that has was not renewed.
 */
const leftBehind = 0.2;

/**
 * Whether a mesh is well, from what its controller tells: one result for each thing that was looked at and is well, and
 * one for each single thing that is not. In the order in which a person would look.
 */
export function checkMesh(facts: MeshFacts): MeshCheck[] {
  return [
    ...group('controller', 'the controller is ready', controllerFindings(facts)),
    ...group('issuing CA', 'the issuing CA is valid', caFindings(facts)),
    ...group('nodes', 'every node that has workloads has an agent', nodeFindings(facts)),
    ...group('agents', 'every agent enforces the present revision', facts.status.agents.flatMap(agentFindings)),
    ...group('workloads', 'every workload is captured', facts.status.agents.flatMap(workloadFindings)),
    ...group('certificates', 'no certificate is about to expire', certificateFindings(facts)),
    ...group('clocks', 'the clocks agree', facts.status.agents.flatMap(clockFindings)),
    ...group('versions', 'everything has one version', versionFindings(facts)),
    ...group('rules', 'nothing about the rules is suspicious', ruleFindings(facts)),
  ];
}

type Finding = Omit<MeshCheck, 'check'>;

function group(check: string, allIsWell: string, findings: readonly Finding[]): MeshCheck[] {
  if (findings.length === 0) return [{ check, state: 'ok', message: allIsWell, hint: '' }];
  return findings.map((finding) => ({ check, ...finding }));
}

function fail(message: string, hint: string): Finding {
  return { state: 'fail', message, hint };
}

function warn(message: string, hint: string): Finding {
  return { state: 'warn', message, hint };
}

function controllerFindings({ status }: MeshFacts): Finding[] {
  return status.controller.pending.map((task) =>
    fail(`the controller waits for ${task}`, 'look at its log, and at /readyz of the controller'),
  );
}

function caFindings({ status, nowMs }: MeshFacts): Finding[] {
  const notAfterMs = Date.parse(status.controller.issuingCaNotAfter);
  if (notAfterMs - nowMs > issuingCaWarningMs) return [];
  const when = formatExpiry(notAfterMs, nowMs);
  const hint = 'restart the controller, which makes a new one, and look at its log';
  return [notAfterMs <= nowMs ? fail(`the issuing CA ${when}`, hint) : warn(`the issuing CA expires ${when}`, hint)];
}

function nodeFindings({ status, workloadsByNode }: MeshFacts): Finding[] {
  const joined = new Set<string>(status.agents.map(({ node }) => node));
  const missing = [...workloadsByNode].filter(([node]) => !joined.has(node));
  return missing.map(([node, count]) =>
    warn(
      `${count} ${count === 1 ? 'workload is' : 'workloads are'} on ${node}, which has no agent: not encrypted, not ruled`,
      `join it: culvert token create --node ${node}`,
    ),
  );
}

function agentFindings({ node, state, heartbeat, revisionLag }: Agent): Finding[] {
  const alarm = heartbeat?.rulesAlarm;
  if (alarm !== undefined) {
    return [fail(`${node} refuses the rules that NATS holds: ${alarm}`, 'somebody may be tampering with NATS')];
  }
  if (state === 'joined') return [fail(`${node} has joined and was never heard of`, 'start culvert-agent there')];
  if (state === 'stale') return [fail(`${node} is not heard of any more`, 'look whether culvert-agent runs there')];
  if (state === 'behind') {
    return [
      fail(`${node} is ${revisionLag ?? '?'} revisions behind`, 'wait for it: culvert rollout status --wait 30s'),
    ];
  }
  const pending = heartbeat?.pending ?? [];
  if (state === 'pending' && pending.length === 0) {
    return [fail(`${node} has no rules yet and refuses everything`, 'look at the log of culvert-agent there')];
  }
  return pending.map((task) => fail(`${node} waits for ${task}`, 'look at the log of culvert-agent there'));
}

/** What an agent said that is not heard any more is no news. */
function isHeard({ state }: Agent): boolean {
  return state !== 'stale' && state !== 'joined';
}

function workloadFindings(agent: Agent): Finding[] {
  const workloads = isHeard(agent) ? (agent.heartbeat?.workloads ?? []) : [];
  return workloads
    .filter(({ captured, problem }) => !captured || problem !== null)
    .map(({ name, problem }) =>
      fail(`${name} on ${agent.node}: ${problem ?? 'not captured'}`, `look at it: culvert nodes ${agent.node}`),
    );
}

function certificateFindings({ status, nowMs }: MeshFacts): Finding[] {
  const certificates = status.agents
    .filter(isHeard)
    .flatMap(({ node, heartbeat }) =>
      (heartbeat?.workloads ?? []).flatMap(({ name, certificateNotAfterMs: notAfterMs }) =>
        notAfterMs === null ? [] : [{ name, node, notAfterMs }],
      ),
    );
  const freshestMs = certificates.reduce((most, { notAfterMs }) => Math.max(most, notAfterMs - nowMs), 0);
  return certificates
    .filter(({ notAfterMs }) => notAfterMs - nowMs <= freshestMs * leftBehind)
    .map(({ name, node, notAfterMs }) => {
      const message = `the certificate of ${name} on ${node} expires ${formatExpiry(notAfterMs, nowMs)}`;
      const hint =
        'it should have been renewed at half of its life: look at the logs of the agent and of the controller';
      const expired = `the certificate of ${name} on ${node} ${formatExpiry(notAfterMs, nowMs)}`;
      return notAfterMs <= nowMs ? fail(expired, hint) : warn(message, hint);
    });
}

function clockFindings({ node, isClockWrong, clockSkewMs }: Agent): Finding[] {
  if (!isClockWrong) return [];
  const message = `the clock of ${node} is ${formatSkew(clockSkewMs)} away from the controller's`;
  return [warn(message, 'certificates and expiring rules go by it: run a time service there')];
}

function versionFindings({ status, version }: MeshFacts): Finding[] {
  const { controller, agents } = status;
  const ofAgents = agents
    .filter(({ heartbeat }) => heartbeat !== null && heartbeat.version !== controller.version)
    .map(({ node, heartbeat }) =>
      warn(
        `${node} runs ${heartbeat?.version ?? ''}, the controller ${controller.version}`,
        'bring them to one version: the controller first',
      ),
    );
  if (version === controller.version) return ofAgents;
  const message = `this command is ${version}, the controller ${controller.version}`;
  return [...ofAgents, warn(message, 'use the command of the version of the controller')];
}

function ruleFindings({ status }: MeshFacts): Finding[] {
  const emergencyRules = new Set(status.breakGlass.map(({ name }) => `SegmentationRule/${name}`));
  const warnings = status.warnings
    // That an emergency rule expires is what it is for.
    .filter(({ resource, path }) => path !== 'spec.expiresAt' || !emergencyRules.has(resource ?? ''))
    .map((problem) => warn(formatProblem({ ...problem, hint: '' }), problem.hint));
  const emergencies = status.breakGlass.map(({ name, leftMs }) =>
    warn(`break-glass rule ${name} is in force for ${formatSpan(leftMs)} more`, 'delete it when it is not needed'),
  );
  return [...warnings, ...emergencies];
}
