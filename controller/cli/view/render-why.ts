import { formatHostPort } from '../../../shared/address.js';
import { formatRuleRef, type Decision, type Party } from '../../../shared/policy/connection.js';
import { reasonInfo } from '../../../shared/reasons.js';
import type { ExplainedConnection, WhyAnswer } from '../../api/api-types.js';
import { formatAge } from './format-time.js';
import { renderTable } from './table.js';
import { workloadName } from '../../../shared/routing/names.js';

/** Near misses in the table; `-o json` has all. */
const maxNearMisses = 20;

/**
 * Renders the answer of `culvert why` for people: the verdict, the rule, the steps to it, near misses, and who applied it.
 * When the question matches several connections, each one with a different decision is explained in full and all are
 * listed.
 */
export function renderWhy(answer: WhyAnswer, nowMs: number): string {
  const { revision, appliedBy, appliedAt, others } = answer;
  const explained = distinctDecisions([answer, ...others]);
  const blocks = [
    ...explained.map(renderConnection),
    ...renderNearMisses([answer, ...others]),
    [
      `revision ${revision}, applied by ${appliedBy} ${formatAge(Date.parse(appliedAt), nowMs)} (${appliedAt})`,
      ...appliedLines(explained, nowMs),
    ].join('\n'),
  ];
  if (others.length > 0) {
    const matches = others.length === 1 ? 'connection matches' : 'connections match';
    blocks.push(`${others.length} more ${matches}:\n${renderOthers(others)}`);
  }
  return blocks.join('\n\n');
}

function distinctDecisions(connections: readonly ExplainedConnection[]): ExplainedConnection[] {
  const byOutcome = new Map<string, ExplainedConnection>();
  for (const connection of connections) {
    const { verdict, reason, rule, audited } = connection.decision;
    const outcome = JSON.stringify([verdict, reason, formatRuleRef(rule), audited.map(formatRuleRef)]);
    if (!byOutcome.has(outcome)) byOutcome.set(outcome, connection);
  }
  return [...byOutcome.values()];
}

/** The near misses of all connections without duplicates. */
function renderNearMisses(connections: readonly ExplainedConnection[]): string[] {
  const texts = [...new Set(connections.flatMap(({ nearMisses }) => nearMisses.map(({ text }) => text)))];
  if (texts.length === 0) return [];
  const rest = texts.length > maxNearMisses ? [`  and ${texts.length - maxNearMisses} more, with -o json`] : [];
  return [['Near misses:', ...texts.slice(0, maxNearMisses).map((text) => `  ${text}`), ...rest].join('\n')];
}

function appliedLines(explained: readonly ExplainedConnection[], nowMs: number): string[] {
  const lines = explained.flatMap(({ decision, ruleApplied }) => {
    if (ruleApplied === null) return [];
    const { appliedBy, appliedAt, revision } = ruleApplied;
    const age = formatAge(Date.parse(appliedAt), nowMs);
    return [`${formatRuleRef(decision.rule)}, applied by ${appliedBy} ${age} with revision ${revision}`];
  });
  return [...new Set(lines)];
}

function renderConnection({ facts, service, enforcedBy, decision, notes }: ExplainedConnection): string {
  const { source, destination, port } = facts;
  const target = formatHostPort({ ip: destination.ip, port });
  const lines = [
    `${verdictWord(decision)}  ${decision.reason}  ${describeRule(decision)}`,
    // The table's text for OK is about connections that have ended.
    ...(decision.verdict === 'allow' ? [] : [reasonInfo(decision.reason).text]),
    '',
    `  source       ${describeParty(source)} at ${source.ip}`,
    `  destination  ${describeParty(destination)} at ${target}${service === null ? '' : ` through service ${service}`}`,
    `  enforced by  ${enforcedBy.length === 0 ? 'no agent' : `the agent of the ${enforcedBy.join(' and that of the ')}`}`,
    ...(decision.audited.length === 0 ? [] : [`  audited      ${decision.audited.map(formatRuleRef).join(', ')}`]),
    ...notes.map((note) => `  note         ${note}`),
    '',
    ...renderTrace(decision),
  ];
  return lines.join('\n').trimEnd();
}

function verdictWord({ verdict }: Decision): string {
  return verdict === 'allow' ? 'ALLOWED' : 'DENIED';
}

function describeRule({ rule }: Decision): string {
  return rule.tier === undefined ? formatRuleRef(rule) : `${formatRuleRef(rule)} (tier ${rule.tier})`;
}

function describeParty({ workload, identity }: Party): string {
  if (workload === null) return identity ?? 'outside the mesh';
  const name = workloadName(workload);
  return identity === null ? `${name}, no identity` : `${name}, ${identity}`;
}

function renderTrace({ trace }: Decision): string[] {
  const rows = trace.map(({ stage, outcome, rule, detail }) => [
    stage,
    outcome,
    rule === null ? '' : formatRuleRef(rule),
    detail,
  ]);
  return renderTable(['STAGE', 'OUTCOME', 'RULE', 'WHY'], rows)
    .split('\n')
    .map((line) => `  ${line}`);
}

function renderOthers(others: readonly ExplainedConnection[]): string {
  const rows = others.map(({ facts, decision }) => [
    verdictWord(decision),
    partyName(facts.source),
    `${partyName(facts.destination)}:${facts.port}`,
    describeRule(decision),
  ]);
  return renderTable(['VERDICT', 'SOURCE', 'DESTINATION', 'RULE'], rows)
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n');
}

function partyName({ workload, ip }: Party): string {
  return workload === null ? ip : workloadName(workload);
}
