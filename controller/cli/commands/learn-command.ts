import type { Command } from 'commander';
import { learnRules } from '../../analysis/learn/learn-rules.js';
import { renderLearned } from '../../analysis/learn/render-learned.js';
import type { Cli } from '../cli.js';
import { readCount } from '../input/quantity-arguments.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { loadPresentSet } from '../client/present-set.js';
import { addSinceOption, loadFlows } from '../client/recorded-flows.js';

type Options = { namespace?: string; since: number; minConnections: number; output: OutputFormat };

/** `culvert learn`: prints the fewest rules that allow the recorded traffic, in mode audit. */
export function addLearnCommand(program: Command, cli: Cli): void {
  const command = program
    .command('learn')
    .description('Print the fewest rules that allow the recorded connections, in mode audit. Changes nothing.')
    .option('-n, --namespace <namespace>', 'only connections into this namespace, or from it to outside the mesh')
    .option(
      '--min-connections <count>',
      'leave out flows with fewer connections',
      (text) => readCount(text, 'number of connections'),
      1,
    );
  addSinceOption(command, '7d').addHelpText('after', '\nExample: culvert learn -n billing --since 7d > billing.yaml');
  addOutputOption(command).action(async ({ namespace, since, minConnections, output }: Options) => {
    const client = await cli.client();
    const { entries, snapshot } = await loadPresentSet(client);
    const { flows } = await loadFlows(cli, client, since);
    const { trustDomain } = snapshot;
    const learned = learnRules({ flows, entries, trustDomain, namespace: namespace ?? null, minConnections });
    cli.io.print(output === 'table' ? renderLearned(learned).trimEnd() : renderData(learned, output));
  });
}
