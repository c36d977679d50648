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
  const networks =
    'Flow records keep networks, not addresses, of what is outside the mesh (/24, and /64 of IPv6): a learned rule allows the whole network, and says so. Narrow its cidr, or make a ServiceEntry, before you promote it.';
  addSinceOption(command, '7d').addHelpText('after', `\n${networks}`);
  command.addHelpText('after', '\nExample: culvert learn -n billing --since 7d > billing.yaml');
  addOutputOption(command).action(async ({ namespace, since, minConnections, output }: Options) => {
    const client = await cli.client();
    const { entries, snapshot } = await loadPresentSet(client);
    const { flows } = await loadFlows(cli, client, since);
    const { trustDomain, externals } = snapshot;
    const scope = { namespace: namespace ?? null, minConnections };
    const learned = learnRules({ flows, entries, trustDomain, externals, ...scope });
    cli.io.print(output === 'table' ? renderLearned(learned).trimEnd() : renderData(learned, output));
  });
}
