import { Option, type Command } from 'commander';
import { tiers } from '../../../shared/policy/snapshot.js';
import { roles, type Role } from '../../access/role.js';
import { describeScope, type Scope } from '../../access/scope.js';
import type { UserAnswer, UserCreatedAnswer } from '../../api/api-types.js';
import { usageError } from '../exit-codes.js';
import { readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
import type { Context } from '../client/context.js';
import { formatAge, formatExpiry } from '../view/format-time.js';
import { lazyYaml } from '../view/lazy-yaml.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { outHelp, writeSecret } from '../view/secret-output.js';
import { renderTable } from '../view/table.js';

type CreateOptions = {
  role: Role;
  namespaces?: readonly string[];
  tiers?: readonly string[];
  breakGlass?: true;
  deleteWorkloads?: true;
  ttl?: number;
  out?: string;
};

/** `culvert user …`: manages users. Creating a user prints its context file, once. */
export function addUserCommand(program: Command, cli: Cli): void {
  const user = program.command('user').description('Manage the users of the controller and their roles.');
  addCreate(user, cli);
  addRenew(user, cli);
  addList(user, cli);
  user
    .command('delete')
    .description('Delete a user and revoke its context file.')
    .argument('<name>', 'name of the user')
    .addHelpText('after', '\nExample: culvert user delete alice')
    .action(async (name: string) => {
      const client = await cli.client();
      await client.call({ method: 'DELETE', path: ['users', name] });
      cli.io.print(`user ${name} deleted`);
    });
}

function readList(text: string): readonly string[] {
  return text.split(',').map((name) => name.trim());
}

function readTiers(text: string): readonly string[] {
  const given = readList(text);
  const wrong = given.find((name) => !tiers.some((tier) => tier === name));
  if (wrong === undefined) return given;
  throw usageError(`"${wrong}" is not a tier`, `use ${tiers.join(', ')}`);
}

/** Prints only the context file to the standard output, so that it can be redirected or piped. */
function addCreate(user: Command, cli: Cli): void {
  user
    .command('create')
    .description('Create a user and print its context file. The history shows the name with every change.')
    .argument('<name>', 'name of the user, as the history shows it')
    .addOption(
      new Option(
        '--role <role>',
        'viewer: read everything; editor: also change resources; admin: also manage tokens and users',
      )
        .choices(roles)
        .default('viewer'),
    )
    .option('--namespaces <names>', 'of an editor: only documents of these namespaces, such as shop,bank', readList)
    .option('--tiers <tiers>', `of an editor: only SegmentationRules of these tiers (${tiers.join(', ')})`, readTiers)
    .option(
      '--break-glass',
      'of an editor: also rules that break glass, as culvert allow makes them; within a scope for 24h at most',
    )
    .option(
      '--delete-workloads',
      'of an editor of a scope: also deleting Workloads, for whose network namespaces no rule holds afterwards',
    )
    .option('--ttl <duration>', 'lifetime, such as 90d; without it the user is valid until deleted', readDuration)
    .option('--out <file>', outHelp)
    .addHelpText('after', '\nExample: culvert user create ci --role viewer --ttl 90d --out ci.yaml')
    .action(async (name: string, { ttl, out, ...wanted }: CreateOptions) => {
      const context = await cli.context();
      const client = await cli.client();
      const body = { name, ...wanted, ...(ttl === undefined ? {} : { ttlMs: ttl }) };
      const made = await writeSecret(cli.io, out, async () => {
        const result = await client.call<UserCreatedAnswer>({ method: 'POST', path: ['users'], body });
        return {
          text: contextText(context, result.token),
          result,
          revoke: () => client.call({ method: 'DELETE', path: ['users', name] }),
          revokeCommand: `culvert user delete ${name}`,
        };
      });
      cli.io.printError(`context file of ${describeUser(made, cli)}: keep it secret, pass it with --context`);
    });
}

/** Prints only the context file to the standard output. */
function addRenew(user: Command, cli: Cli): void {
  user
    .command('renew')
    .description('Print a new context file of a user, with a new token and the roots of now. The old token is refused.')
    .argument('<name>', 'name of the user')
    .option('--ttl <duration>', 'lifetime from now on, such as 90d; without it the user ends when it did', readDuration)
    .option('--out <file>', outHelp)
    .addHelpText('after', '\nExample: culvert user renew ci --ttl 90d --out ci.yaml')
    .action(async (name: string, { ttl, out }: { ttl?: number; out?: string }) => {
      const client = await cli.client();
      const renew = (body: object): Promise<UserCreatedAnswer> =>
        client.call<UserCreatedAnswer>({ method: 'POST', path: ['users', name, 'token'], body });
      const made = await writeSecret(cli.io, out, async () => {
        const result = await renew(ttl === undefined ? {} : { ttlMs: ttl });
        return {
          text: contextText(await cli.context(), result.token),
          result,
          // The next token makes this one worthless.
          revoke: () => renew({}),
          revokeCommand: `culvert user renew ${name}`,
        };
      });
      cli.io.printError(`new context file of ${describeUser(made, cli)}: keep it secret, pass it with --context`);
    });
}

function contextText({ url, caPem }: Context, token: string): string {
  return lazyYaml().stringify({ controller: url.origin, ca: caPem, token }).trimEnd();
}

function describeUser({ name, role, expiresAt }: UserCreatedAnswer, cli: Cli): string {
  const until = expiresAt === null ? '' : `, expires ${formatExpiry(Date.parse(expiresAt), cli.io.nowMs())}`;
  return `${name}, role ${role}${until}`;
}

function addList(user: Command, cli: Cli): void {
  const list = user.command('list').description('List the users of the controller.');
  addOutputOption(list).action(async ({ output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const users = await client.call<readonly UserAnswer[]>({ method: 'GET', path: ['users'] });
    if (output !== 'table') return cli.io.print(renderData(users, output));
    if (users.length === 0) return cli.io.printError('there are no users except admin.yaml of the controller');
    cli.io.print(renderUsers(users, cli.io.nowMs()));
  });
}

/** A controller of an earlier version says less of it. */
function scopeIn({ namespaces, tiers: ofTiers, breakGlass, deleteWorkloads }: UserAnswer): Scope {
  return {
    namespaces: namespaces ?? null,
    tiers: ofTiers ?? null,
    mayBreakGlass: breakGlass ?? true,
    mayDeleteWorkloads: deleteWorkloads ?? false,
  };
}

function renderUsers(users: readonly UserAnswer[], nowMs: number): string {
  const rows = users.map((user) => [
    user.name,
    user.role,
    user.role === 'viewer' ? '' : describeScope(scopeIn(user)),
    `${formatAge(Date.parse(user.createdAt), nowMs)} by ${user.createdBy}`,
    user.expiresAt === null ? 'never' : formatExpiry(Date.parse(user.expiresAt), nowMs),
  ]);
  return renderTable(['NAME', 'ROLE', 'MAY CHANGE', 'CREATED', 'EXPIRES'], rows);
}
