import type { Command } from 'commander';
import { formatProblem } from '../../resources/kinds/problem.js';
import type { StatusAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { formatAge, formatExpiry, formatLeft, formatSkew } from '../view/format-time.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
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
  const { version, trustDomain, startedAt, pending, issuingCaNotAfter } = controller;
  const lines = [
    `controller  ${version}, trust domain ${trustDomain}, started ${formatAge(Date.parse(startedAt), nowMs)}`,
    `revision    ${revision}, applied ${formatAge(Date.parse(appliedAt), nowMs)} by ${appliedBy}`,
    `issuing CA  expires ${formatExpiry(Date.parse(issuingCaNotAfter), nowMs)}`,
    ...(pending.length === 0 ? [] : [`waits for   ${pending.join(', ')}`]),
    '',
  ];
  const shown =
    agents.length === 0
      ? ['No agent has joined: culvert token create --node NAME']
      : [renderAgents(agents, nowMs), ...agents.flatMap(remarks)];
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

function renderAgents(agents: readonly Agent[], nowMs: number): string {
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
  return renderTable(header, rows);
}

/** One line each for rules that the agent rejected, tasks it is waiting for, and problems of its workloads. */
function remarks({ node, heartbeat }: Agent): string[] {
  if (heartbeat === null) return [];
  const alarm = heartbeat.rulesAlarm;
  const refused = alarm === undefined ? [] : [`ALARM: ${node} rejects the rules in NATS: ${alarm}`];
  const pending = heartbeat.pending.map((task) => `${node} is waiting for ${task}`);
  const problems = heartbeat.workloads
    .filter(({ problem }) => problem !== null)
    .map(({ name, problem }) => `${node}: ${name}: ${problem ?? ''}`);
  return [...refused, ...pending, ...problems].map(printable);
}
