import { formatHostPort } from '../../shared/address.js';
import { formatRuleRef, type Decision, type Party } from '../../shared/policy/connection.js';
import { reasonInfo } from '../../shared/reasons.js';
import type { ExplainedConnection, WhyAnswer } from '../api/api-types.js';
import { formatAge } from './format-time.js';
import { renderTable } from './table.js';

/** The answer of `culvert why` for a person: verdict, rule, the way to it, and who put it in force. */
export function renderWhy(answer: WhyAnswer, nowMs: number): string {
  const { revision, appliedBy, appliedAt, others, ruleApplied, nearMisses } = answer;
  const ruleLine =
    ruleApplied === null
      ? []
      : [
          `${formatRuleRef(answer.decision.rule)}, applied by ${ruleApplied.appliedBy} ` +
            `${formatAge(Date.parse(ruleApplied.appliedAt), nowMs)} with revision ${ruleApplied.revision}`,
        ];
  const blocks = [
    renderConnection(answer),
    ...(nearMisses.length === 0 ? [] : [['Near misses:', ...nearMisses.map(({ text }) => `  ${text}`)].join('\n')]),
    [
      `revision ${revision}, applied by ${appliedBy} ${formatAge(Date.parse(appliedAt), nowMs)} (${appliedAt})`,
      ...ruleLine,
    ].join('\n'),
  ];
  if (others.length > 0) blocks.push(`These words mean ${others.length} more:\n${renderOthers(others)}`);
  return blocks.join('\n\n');
}

function renderConnection({ facts, service, enforcedBy, decision, notes }: ExplainedConnection): string {
  const { source, destination, port } = facts;
  const target = formatHostPort({ ip: destination.ip, port });
  const lines = [
    `${verdictWord(decision)}  ${decision.reason}  ${describeRule(decision)}`,
    reasonInfo(decision.reason).text,
    '',
    `  source       ${describeParty(source)} at ${source.ip}`,
    `  destination  ${describeParty(destination)} at ${target}${service === null ? '' : ` through service ${service}`}`,
    `  enforced by  ${enforcedBy.length === 0 ? 'nobody' : `the agent of the ${enforcedBy.join(' and that of the ')}`}`,
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
  const name = `${workload.namespace}/${workload.name}`;
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
  return workload === null ? ip : `${workload.namespace}/${workload.name}`;
}
