import type { Command } from 'commander';
import { auditReport, type AuditedRule } from '../../analysis/flows/audit-report.js';
import { networksNote } from '../../analysis/flows/recorded-networks.js';
import type { Cli } from '../cli.js';
import { formatAge } from '../view/format-time.js';
import { countText } from '../view/amounts.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { addSinceOption, loadFlows } from '../client/recorded-flows.js';
import { printable, renderTable } from '../view/table.js';
import { toldByText } from '../view/told-by-text.js';

type Options = { since: number; output: OutputFormat };

/** `culvert audit`: shows what rules in mode audit would have denied. */
export function addAuditCommand(program: Command, cli: Cli): void {
  const command = program
    .command('audit')
    .description('Show what audited rules would have denied, by rule, newest first.');
  addSinceOption(command, '24h').addHelpText('after', '\nExample: culvert audit --since 7d');
  addOutputOption(command).action(async ({ since, output }: Options) => {
    const client = await cli.client();
    const recorded = await loadFlows(cli, client, since);
    const rules = auditReport(recorded);
    cli.io.print(output === 'table' ? renderAudit(rules, cli.io.nowMs()) : renderData(rules, output));
  });
}

export function renderAudit(rules: readonly AuditedRule[], nowMs: number): string {
  if (rules.length === 0) return 'No audited rule would have denied anything.';
  const note = networksNote(rules.flatMap(({ pairs }) => pairs.flatMap((pair) => [pair.source, pair.destination])));
  return [...rules.map((rule) => renderRule(rule, nowMs)), ...(note === null ? [] : [printable(note)])].join('\n\n');
}

function renderRule({ rule, connections, lastSeenMs, pairs }: AuditedRule, nowMs: number): string {
  const rows = pairs.map((pair) => [
    pair.source,
    pair.destination,
    pair.port === 0 ? '' : String(pair.port),
    String(pair.connections),
    String(pair.daysSeen),
    formatAge(pair.lastSeenMs, nowMs),
    toldByText(pair.toldBy),
  ]);
  const head = `${rule} would have denied ${countText(connections, 'connection')}, the last ${formatAge(lastSeenMs, nowMs)}`;
  return `${printable(head)}\n${renderTable(['FROM', 'TO', 'PORT', 'CONNECTIONS', 'DAYS', 'LAST SEEN', 'TOLD BY'], rows)}`;
}
