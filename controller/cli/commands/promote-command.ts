import type { Command } from 'commander';
import { promoteCheck, type PromoteCheck } from '../../analysis/flows/promote-check.js';
import type { SegmentationRule } from '../../resources/kinds/segmentation-rule.js';
import type { ApplyAnswer, ResourceItem } from '../../api/api-types.js';

import { renderChanges } from './apply-command.js';
import type { Cli } from '../cli.js';
import { CliError } from '../exit-codes.js';
import { countText } from '../view/amounts.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { loadPresentSet } from '../client/present-set.js';
import { addSinceOption, loadFlows, type RecordedFlows } from '../client/recorded-flows.js';
import { renderBrokenFlows, renderUnknownFlows } from '../view/render-diff.js';

/** Maximum length of a change's message in the API. */
const maxMessage = 1024;

type Options = { since: number; force: boolean; output: OutputFormat };

/** `culvert promote`: switches rules from audit to enforce in one change, unless recorded working connections would break. */
export function addPromoteCommand(program: Command, cli: Cli): void {
  const command = program
    .command('promote')
    .description('Enforce audited rules for every source, unless recorded connections would break.')
    .argument('<rule...>', 'names of SegmentationRules; all are enforced in one change')
    .option('--force', 'enforce even when connections would break, or nothing is known', false);
  addSinceOption(command, '24h').addHelpText('after', '\nExample: culvert promote db-only --since 7d');
  addOutputOption(command).action(async (rules: string[], options: Options) => promote(cli, rules, options));
}

async function promote(cli: Cli, texts: readonly string[], { since, force, output }: Options): Promise<void> {
  const { io } = cli;
  const rules = [...new Set(texts.map((text) => text.replace(/^SegmentationRule\//, '')))];
  const client = await cli.client();
  const documents: string[] = [];
  for (const rule of rules) {
    const path = ['resources', 'SegmentationRule', rule];
    const { resource } = await client.call<ResourceItem>({ method: 'GET', path });
    documents.push(renderData(promoted(resource as SegmentationRule), 'yaml'));
  }
  const present = await loadPresentSet(client);
  const flows = await loadFlows(cli, client, since);
  const check = promoteCheck({
    ...present,
    rules,
    flows: flows.flows,
    sinceMs: flows.sinceMs,
    clock: { nowMs: io.nowMs },
  });
  const refusal = refusalOf(rules, check, flows);
  if (check.kind === 'checked') reportCheck(cli, check);
  if (refusal !== null && (!force || check.kind !== 'checked')) throw refusal;
  const body = { documents: documents.join('\n---\n'), message: `promote ${rules.join(' ')}`.slice(0, maxMessage) };
  const answer = await cli.change<ApplyAnswer>(client, { method: 'POST', path: ['apply'], body });
  io.print(output === 'table' ? renderChanges(answer) : renderData({ ...answer, check }, output));
}

/** The rule, enforced for all sources and otherwise unchanged. */
function promoted({ spec, ...rest }: SegmentationRule): SegmentationRule {
  return { ...rest, spec: { ...spec, mode: 'enforce', ...(spec.rollout === undefined ? {} : { rollout: 100 }) } };
}

/** Prints what speaks against the promotion, for people, in every output format. */
function reportCheck({ io }: Cli, { broken, doubtful }: Extract<PromoteCheck, { kind: 'checked' }>): void {
  if (broken.length > 0) io.printError(`would break:\n${renderBrokenFlows(broken, io.nowMs())}`);
  if (doubtful.length > 0) io.printError(`unknown:\n${renderUnknownFlows(doubtful, io.nowMs())}`);
}

/** The reason not to promote, or null. */
function refusalOf(
  rules: readonly string[],
  check: PromoteCheck,
  { isCurrent, leftOut }: RecordedFlows,
): CliError | null {
  const refuse = (code: string, message: string, hint: string) => new CliError({ exit: 'failed', code, message, hint });
  const anyway = 'check it, or use --force';
  const name = rules.join(', ');
  if (check.kind === 'no such rule')
    return refuse('RULE_OFF', `${check.rule} is off`, 'apply it with mode: audit first');
  if (check.kind === 'enforced')
    return refuse(
      'ENFORCED',
      `${name} ${rules.length === 1 ? 'is' : 'are'} already enforced`,
      'there is nothing to do',
    );
  if (check.broken.length > 0) {
    const message = `${name} would deny ${countText(check.broken.length, 'recorded flow')} that worked`;
    const all = [...new Set([...check.together, ...rules])];
    const hint = `some of them are allowed by rules that are only audited; promote them together: culvert promote ${all.join(' ')}`;
    const oneSided = check.broken.filter(({ toldBy }) => toldBy !== null && toldBy !== 'both').length;
    const doubt = oneSided === 0 ? '' : `; only one end tells ${oneSided} of them, which its node may have invented`;
    return refuse('WOULD_BREAK', message, (check.together.length === 0 ? anyway : hint) + doubt);
  }
  if (check.doubtful.length > 0) {
    const message = `${name} would have denied ${countText(check.doubtful.length, 'recorded flow')}, and it is unknown whether they work`;
    return refuse('CANNOT_TELL', message, anyway);
  }
  if (check.records === 0) {
    return refuse('NO_EVIDENCE', 'no connection was recorded in this time', 'use a longer --since, or --force');
  }
  if (!isCurrent || leftOut > 0) {
    return refuse('NO_EVIDENCE', 'the records of this time are incomplete', 'try again, or use --force');
  }
  return null;
}
