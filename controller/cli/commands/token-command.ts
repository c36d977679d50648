import type { Command } from 'commander';
import type { TokenAnswer, TokenItem } from '../../api/api-types.js';
import { readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
import { formatAge, formatExpiry } from '../view/format-time.js';
import { outHelp, writeSecret } from '../view/secret-output.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderTable } from '../view/table.js';

type Options = { node: string; ttl?: number; out?: string; output: OutputFormat };

/** `culvert token …`: manages join tokens. */
export function addTokenCommand(program: Command, cli: Cli): void {
  const token = program.command('token').description('Manage join tokens.');
  addCreate(token, cli);
  addList(token, cli);
  token
    .command('revoke')
    .description('Revoke a join token, so that no host can join with it.')
    .argument('<id>', 'id of the token, as culvert token list shows it')
    .addHelpText('after', '\nExample: culvert token revoke 0a1b2c3d4e5f')
    .action(async (id: string) => {
      const client = await cli.client();
      await client.call({ method: 'DELETE', path: ['tokens', id] });
      cli.io.print(`token ${id} revoked`);
    });
}

function addList(token: Command, cli: Cli): void {
  const list = token
    .command('list')
    .description('List the join tokens of the last day, without their secrets.')
    .addHelpText('after', '\nExample: culvert token list');
  addOutputOption(list).action(async ({ output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const tokens = await client.call<TokenItem[]>({ method: 'GET', path: ['tokens'] });
    if (output !== 'table') return cli.io.print(renderData(tokens, output));
    if (tokens.length === 0) return cli.io.printError('there is no join token');
    cli.io.print(renderTokens(tokens, cli.io.nowMs()));
  });
}

function renderTokens(tokens: readonly TokenItem[], nowMs: number): string {
  const rows = tokens.map(({ id, node, state, createdBy, createdAt, expiresAt }) => [
    id,
    node,
    state,
    formatExpiry(Date.parse(expiresAt), nowMs),
    formatAge(Date.parse(createdAt), nowMs),
    createdBy,
  ]);
  return renderTable(['ID', 'NODE', 'STATE', 'EXPIRES', 'CREATED', 'BY'], rows);
}

/** Prints only the token to the standard output, so that a script can read it. */
function addCreate(token: Command, cli: Cli): void {
  const create = token
    .command('create')
    .description('Create a join token for one host. It is short-lived and works once.')
    .requiredOption('--node <name>', 'node name of the host that may join with it')
    .option('--ttl <duration>', 'lifetime, such as 15m; default: the setting of the controller', readDuration)
    .option('--out <file>', outHelp);
  create.addHelpText('after', '\nExample: culvert token create --node host-a --ttl 15m');
  addOutputOption(create).action(async ({ node, ttl, out, output }: Options) => {
    const { url } = await cli.context();
    const client = await cli.client();
    const body = { node, ...(ttl === undefined ? {} : { ttlMs: ttl }) };
    const answer = await writeSecret(cli.io, out, async () => {
      const result = await client.call<TokenAnswer>({ method: 'POST', path: ['tokens'], body });
      return {
        text: output === 'table' ? result.token : renderData(result, output),
        result,
        revoke: () => client.call({ method: 'DELETE', path: ['tokens', result.id] }),
        revokeCommand: `culvert token revoke ${result.id}`,
      };
    });
    if (output !== 'table') return;
    const expiry = formatExpiry(answer.expiresAtMs, cli.io.nowMs());
    cli.io.printError(
      `for node ${answer.node}, expires ${expiry}; on that host: culvert-agent join --node ${answer.node} --controller ${answer.controller ?? url.origin} --token-file FILE`,
    );
  });
}
