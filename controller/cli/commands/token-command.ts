import type { Command } from 'commander';
import type { TokenAnswer } from '../../api/api-types.js';
import { readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
import { formatExpiry } from '../view/format-time.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';

type Options = { node: string; ttl?: number; output: OutputFormat };

/** `culvert token create`: prints only the token to the standard output, so that a script can read it. */
export function addTokenCommand(program: Command, cli: Cli): void {
  const token = program.command('token').description('Manage join tokens.');
  const create = token
    .command('create')
    .description('Create a join token for one host. It is short-lived and works once.')
    .requiredOption('--node <name>', 'node name of the host that may join with it')
    .option('--ttl <duration>', 'lifetime, such as 15m; default: the setting of the controller', readDuration);
  create.addHelpText('after', '\nExample: culvert token create --node host-a --ttl 15m');
  addOutputOption(create).action(async ({ node, ttl, output }: Options) => {
    const client = await cli.client();
    const body = { node, ...(ttl === undefined ? {} : { ttlMs: ttl }) };
    const answer = await client.call<TokenAnswer>({ method: 'POST', path: ['tokens'], body });
    if (output !== 'table') return cli.io.print(renderData(answer, output));
    cli.io.print(answer.token);
    const expiry = formatExpiry(answer.expiresAtMs, cli.io.nowMs());
    cli.io.printError(
      `for node ${answer.node}, expires ${expiry}; on that host: culvert-agent join --controller URL --token-file FILE`,
    );
  });
}
