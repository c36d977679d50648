import { Option, type Command } from 'commander';
import type { WhyAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { CliError } from '../exit-codes.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderWhy } from '../view/render-why.js';
import { parseWhyTarget } from '../input/why-target.js';

type Options = { output: OutputFormat; expect?: 'allow' | 'deny' };

/** `culvert why`: explains how the rules in force decide a connection. The controller runs the agents' evaluator. */
export function addWhyCommand(program: Command, cli: Cli): void {
  const command = program
    .command('why')
    .description('Explain whether a connection is allowed, by which rule, and who applied the rule.')
    .argument(
      '<source>',
      'workload or service account as NAMESPACE/NAME (prefix workload: or sa: to choose), or an IP address',
    )
    .argument(
      '<destination>',
      'workload, service or service account as NAMESPACE/NAME[:PORT] (prefix workload:, service: or sa: to choose), or ADDRESS[:PORT]; without PORT only a service with one port',
    )
    .addOption(
      new Option('--expect <verdict>', 'exit with 1 when any matching connection has another verdict').choices([
        'allow',
        'deny',
      ]),
    );
  command.addHelpText('after', '\nExample: culvert why guest/shell billing/db:5432 --expect deny');
  addOutputOption(command).action(async (source: string, target: string, { output, expect }: Options) => {
    const { destination, port } = parseWhyTarget(target);
    const client = await cli.client();
    const query = { source, destination, port: port ?? undefined };
    const answer = await client.call<WhyAnswer>({ method: 'GET', path: ['why'], query });
    cli.io.print(output === 'table' ? renderWhy(answer, cli.io.nowMs()) : renderData(answer, output));
    if (expect !== undefined) checkVerdict(answer, expect);
  });
}

function checkVerdict({ decision, others }: WhyAnswer, expected: 'allow' | 'deny'): void {
  if ([decision, ...others.map((other) => other.decision)].every(({ verdict }) => verdict === expected)) return;
  throw new CliError({
    exit: 'failed',
    code: 'UNEXPECTED_VERDICT',
    message: `expected the verdict ${expected}`,
    hint: 'the steps above show which rule decides',
  });
}
