import type { Command } from 'commander';
import type { LintFinding } from '../../analysis/lint/lint-finding.js';
import { lintSet } from '../../analysis/lint/lint-set.js';
import { controllerSettings } from '../../config/settings.js';
import type { Cli } from '../cli.js';
import { readInput } from '../input/input-files.js';
import { compileLocalSet, parseRuleFiles } from '../input/local-set.js';
import { readTrustDomain } from '../input/text-arguments.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { asEnforced, loadPresentDocuments } from '../client/present-set.js';
import { addSinceOption, loadFlows } from '../client/recorded-flows.js';
import { printable } from '../view/table.js';

type Options = { file?: string[]; trustDomain: string; since: number; output: OutputFormat };

/** `culvert lint`: finds valid but suspicious rules, in force or in files. */
export function addLintCommand(program: Command, cli: Cli): void {
  const command = program
    .command('lint')
    .description(
      'Find rules that never decide, overlap, expire or match nothing. Exits with 0 even when it finds some.',
    )
    .option('-f, --file <path...>', 'check files instead of the rules in force; needs no controller')
    .option(
      '--trust-domain <name>',
      'trust domain of the files',
      readTrustDomain,
      controllerSettings.trustDomain.default,
    );
  addSinceOption(command, '7d').addHelpText('after', '\nExample: culvert lint --since 14d');
  addOutputOption(command).action(async (options: Options) => {
    const findings = await (options.file === undefined
      ? lintPresent(cli, options.since)
      : lintFiles(cli, options.file, options.trustDomain));
    cli.io.print(options.output === 'table' ? renderLint(findings) : renderData(findings, options.output));
  });
}

async function lintPresent(cli: Cli, sinceMs: number): Promise<LintFinding[]> {
  const client = await cli.client();
  const registered = await loadPresentDocuments(client);
  const present = asEnforced(registered, registered, cli.io.printError);
  const { flows } = await loadFlows(cli, client, sinceMs);
  return lintSet({ ...present, flows: flows.length === 0 ? null : flows, clock: { nowMs: cli.io.nowMs } });
}

async function lintFiles(cli: Cli, file: readonly string[], trustDomain: string): Promise<LintFinding[]> {
  const input = await readInput(file, cli.io);
  const set = compileLocalSet(cli, { ...parseRuleFiles(input.text), input, trustDomain });
  cli.printProblems(set.warnings.map(input.locate));
  return lintSet({ ...set, clock: { nowMs: cli.io.nowMs } });
}

function renderLint(findings: readonly LintFinding[]): string {
  if (findings.length === 0) return 'No suspicious rules.';
  const lines = findings.map(({ severity, kind, resource, message, hint }) =>
    printable(`${severity}: ${resource}: ${kind}: ${message} (${hint})`),
  );
  return lines.join('\n');
}
