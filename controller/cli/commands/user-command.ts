import { Option, type Command } from 'commander';
import { roles, type Role } from '../../access/role.js';
import type { UserAnswer, UserCreatedAnswer } from '../../api/api-types.js';
import { readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
import { formatAge, formatExpiry } from '../view/format-time.js';
import { lazyYaml } from '../view/lazy-yaml.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderTable } from '../view/table.js';

type CreateOptions = { role: Role; ttl?: number };

/** `culvert user …`: who may use the controller. A user is a context file, which is shown once. */
export function addUserCommand(program: Command, cli: Cli): void {
  const user = program.command('user').description('Say who may use the controller, and as what.');
  addCreate(user, cli);
  addList(user, cli);
  user
    .command('delete')
    .description('Turn a user away: the context file is refused from now on.')
    .argument('<name>', 'name of the user')
    .addHelpText('after', '\nExample: culvert user delete alice')
    .action(async (name: string) => {
      const client = await cli.client();
      await client.call({ method: 'DELETE', path: ['users', name] });
      cli.io.print(`user ${name} deleted`);
    });
}

/** The context file alone goes to the standard output, so that it can be written to a file or piped to a safe. */
function addCreate(user: Command, cli: Cli): void {
  user
    .command('create')
    .description('Write a context file for somebody, with a credential of his own: history names him.')
    .argument('<name>', 'name as it stands in the history')
    .addOption(
      new Option('--role <role>', 'viewer: ask everything; editor: also apply; admin: also tokens and users')
        .choices(roles)
        .default('viewer'),
    )
    .option('--ttl <duration>', 'how long it is good, such as 90d; until it is deleted unless given', readDuration)
    .addHelpText('after', '\nExample: culvert user create ci --role viewer --ttl 90d > ci.yaml')
    .action(async (name: string, { role, ttl }: CreateOptions) => {
      const context = await cli.context();
      const client = await cli.client();
      const body = { name, role, ...(ttl === undefined ? {} : { ttlMs: ttl }) };
      const made = await client.call<UserCreatedAnswer>({ method: 'POST', path: ['users'], body });
      const file = { controller: context.url.origin, ca: context.caPem, token: made.token };
      cli.io.print(lazyYaml().stringify(file).trimEnd());
      const until =
        made.expiresAt === null ? '' : `, expires ${formatExpiry(Date.parse(made.expiresAt), cli.io.nowMs())}`;
      cli.io.printError(
        `context file of ${made.name}, role ${made.role}${until}: keep it secret, name it with --context`,
      );
    });
}

function addList(user: Command, cli: Cli): void {
  const list = user.command('list').description('List who may use the controller.');
  addOutputOption(list).action(async ({ output }: { output: OutputFormat }) => {
    const client = await cli.client();
    const users = await client.call<readonly UserAnswer[]>({ method: 'GET', path: ['users'] });
    if (output !== 'table') return cli.io.print(renderData(users, output));
    if (users.length === 0) return cli.io.printError('there is no user besides admin.yaml of the controller');
    cli.io.print(renderUsers(users, cli.io.nowMs()));
  });
}

export function renderUsers(users: readonly UserAnswer[], nowMs: number): string {
  const rows = users.map(({ name, role, createdBy, createdAt, expiresAt }) => [
    name,
    role,
    `${formatAge(Date.parse(createdAt), nowMs)} by ${createdBy}`,
    expiresAt === null ? 'never' : formatExpiry(Date.parse(expiresAt), nowMs),
  ]);
  return renderTable(['NAME', 'ROLE', 'CREATED', 'EXPIRES'], rows);
}
