import type { Command } from 'commander';
import { formatProblem } from '../../resources/kinds/problem.js';
import type { NodeWithoutAgent, StatusAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { formatAge, formatExpiry, formatLeft, formatSkew } from '../view/format-time.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { replicasText } from '../view/replica-checks.js';
import { printable, renderTable } from '../view/table.js';

/** `culvert status`: shows the revision in force and the state of each agent. */
export function addStatusCommand(program: Command, cli: Cli): void {
  const command = program.command('status').description('Show the revision in force and the state of each agent.');
  command.addHelpText('after', '\nExample: culvert status -o json');
  addOutputOption(command).action(async ({ output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const answer = await client.call<StatusAnswer>({ method: 'GET', path: ['status'] });
    cli.io.print(output === 'table' ? renderStatus(answer, cli.io.nowMs()) : renderData(answer, output));
  });
}

type Agent = StatusAnswer['agents'][number];

export function renderStatus(answer: StatusAnswer, nowMs: number): string {
  const { controller, revision, appliedAt, appliedBy, agents, warnings, breakGlass } = answer;
  const { version, trustDomain, startedAt, pending, issuingCaNotAfter, issuer } = controller;
  const lines = [
    `controller  ${version}, trust domain ${trustDomain}, started ${formatAge(Date.parse(startedAt), nowMs)}`,
    `revision    ${revision}, applied ${formatAge(Date.parse(appliedAt), nowMs)} by ${appliedBy}`,
    `issuing CA  expires ${formatExpiry(Date.parse(issuingCaNotAfter), nowMs)}`,
    ...(issuer == null ? [] : [printable(`issuer      ${issuer.place}: ${issuer.problem ?? 'signs'}`)]),
    ...(answer.replicas == null ? [] : [printable(`replicas    ${replicasText(answer.replicas, nowMs)}`)]),
    ...(pending.length === 0 ? [] : [`waits for   ${pending.join(', ')}`]),
    '',
  ];
  const missing = answer.nodesWithoutAgent ?? [];
  const shown = [
    ...(agents.length === 0 ? ['No agent has joined: culvert token create --node NAME'] : []),
    ...(agents.length + missing.length === 0 ? [] : [renderAgents(agents, missing, nowMs)]),
    ...agents.flatMap(remarks),
    ...missing.map(missingRemark),
  ];
  return [...lines, ...shown, ...renderBreakGlass(breakGlass), ...renderWarnings(warnings)].join('\n');
}

/** The time left goes by the controller's clock. */
function renderBreakGlass(rules: StatusAnswer['breakGlass']): string[] {
  if (rules.length === 0) return [];
  const rows = rules.map(({ name, leftMs, reason, owner, appliedBy }) => [
    name,
    formatLeft(leftMs),
    reason ?? '',
    owner ?? appliedBy,
  ]);
  return ['', renderTable(['BREAK-GLASS RULE', 'TIME LEFT', 'REASON', 'WHO'], rows)];
}

function renderWarnings(warnings: StatusAnswer['warnings']): string[] {
  if (warnings.length === 0) return [];
  return ['', ...warnings.map((problem) => printable(`warning: ${formatProblem(problem)}`))];
}

function renderAgents(agents: readonly Agent[], missing: readonly NodeWithoutAgent[], nowMs: number): string {
  const rows = agents.map((agent) => {
    const { node, state, heartbeat, revisionLag, clockSkewMs, isClockWrong, lastSeenMs } = agent;
    const workloads = heartbeat?.workloads ?? [];
    return [
      node,
      state,
      String(heartbeat?.appliedRevision ?? ''),
      String(revisionLag ?? ''),
      heartbeat === null ? '' : `${workloads.filter(({ captured }) => captured).length}/${workloads.length}`,
      formatExpiry(agent.nextCertificateExpiryMs, nowMs),
      `${formatSkew(clockSkewMs)}${isClockWrong ? ' wrong' : ''}`,
      formatAge(lastSeenMs, nowMs),
    ];
  });
  const header = ['NODE', 'STATE', 'REVISION', 'LAG', 'CAPTURED', 'CERTIFICATES', 'CLOCK', 'SEEN'];
  const others = missing.map(({ node, workloads }) => [node, 'no agent', '', '', `0/${workloads}`, '', '', '']);
  return renderTable(header, [...rows, ...others]);
}

function missingRemark({ node, workloads }: NodeWithoutAgent): string {
  const count = `${workloads} ${workloads === 1 ? 'workload is' : 'workloads are'}`;
  return printable(`${node} has no agent: ${count} registered on it, neither encrypted nor subject to rules`);
}

/** One line each for rules that the agent rejected, tasks it is waiting for, weaknesses, and problems of its workloads. */
function remarks({ node, state, heartbeat }: Agent): string[] {
  if (heartbeat === null) return [];
  const alarm = heartbeat.rulesAlarm;
  const refused = alarm === undefined ? [] : [`ALARM: ${node} rejects the rules in NATS: ${alarm}`];
  const registry = heartbeat.registryAlarm;
  if (registry !== undefined) refused.push(`ALARM: ${node} rejects part of the registry in NATS: ${registry}`);
  if (state === 'ahead') {
    refused.push(
      `ALARM: ${node} holds a later revision or inventory than this controller has made: was an older backup restored? see culvert advance`,
    );
  }
  const { passedOver = [] } = heartbeat;
  const unknown =
    passedOver.length === 0
      ? []
      : [`${node} is too old for ${passedOver.join(', ')} of the rules, and goes on without`];
  const age = heartbeat.rulesAgeProblem;
  const old = age === undefined ? [] : [`ALARM: ${node}: ${age}`];
  const pending = heartbeat.pending.map((task) => `${node} is waiting for ${task}`);
  const weaknesses = (heartbeat.weaknesses ?? []).map((text) => `${node} protects less than others: ${text}`);
  const problems = heartbeat.workloads
    .filter(({ problem }) => problem !== null)
    .map(({ name, problem }) => `${node}: ${name}: ${problem ?? ''}`);
  return [...refused, ...old, ...unknown, ...pending, ...weaknesses, ...problems].map(printable);
}
