import { Option, type Command } from 'commander';
import type { ExportAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { renderData } from '../view/output-format.js';

/** `culvert export`: prints all documents, in an order that depends only on their content. */
export function addExportCommand(program: Command, cli: Cli): void {
  const command = program
    .command('export')
    .description('Print all documents in force as YAML that can be applied again.')
    .addHelpText('after', '\n-o json adds the compiled rules and the registry.')
    .addHelpText('after', 'Example: culvert export > mesh.yaml');
  const formats = new Option('-o, --output <format>', 'output format').choices(['yaml', 'json']).default('yaml');
  command.addOption(formats).action(async ({ output }: { output: 'yaml' | 'json' }) => {
    const client = await cli.client();
    const answer = await client.call<ExportAnswer>({ method: 'GET', path: ['export'] });
    cli.io.print(output === 'yaml' ? answer.resources.trimEnd() : renderData(answer, output));
  });
}
