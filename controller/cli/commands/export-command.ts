import type { Command } from 'commander';
import type { ExportAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';

/** `culvert export`: prints all documents, in an order that depends only on their content. */
export function addExportCommand(program: Command, cli: Cli): void {
  const command = program
    .command('export')
    .description('Print all documents in force as YAML that can be applied again.')
    .addHelpText('after', '\n-o json adds the compiled rules and the registry.')
    .addHelpText('after', 'Example: culvert export > mesh.yaml');
  addOutputOption(command).action(async ({ output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const answer = await client.call<ExportAnswer>({ method: 'GET', path: ['export'] });
    cli.io.print(output === 'table' ? answer.resources.trimEnd() : renderData(answer, output));
  });
}
