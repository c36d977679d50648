import { open, rm } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import { describeError } from '../../../shared/errors.js';
import { readNamedFile } from '../../../shared/named-file.js';
import { refuseUnknownWord } from '../../../shared/program/program-command.js';
import { auditActions } from '../../audit-log/audit-entry.js';
import { ChainVerifier, type ChainVerdict } from '../../audit-log/verify-chain.js';
import type { AuditItem, AuditLines, AuditList } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import type { ApiClient } from '../client/api-client.js';
import { CliError, usageError } from '../exit-codes.js';
import { readCount, readDuration } from '../input/quantity-arguments.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderTable } from '../view/table.js';

type ListOptions = { since?: number; user?: string; action?: string; limit: number; output: OutputFormat };
type VerifyOptions = { file?: string[]; expect?: string };

/** `culvert audit-log …`: who asked the controller for what, and whether the record of it is whole. */
export function addAuditLogCommand(program: Command, cli: Cli): void {
  const command = program
    .command('audit-log')
    .description('Read, export and verify the log of privileged and refused requests.')
    .hook('preSubcommand', refuseUnknownWord);
  const listing = command
    .command('list', { isDefault: true })
    .description('List them, oldest first (the default).')
    .option('--since <duration>', 'only of the last time, such as 24h', readDuration)
    .option('--user <name>', 'only of this user')
    .addOption(new Option('--action <action>', 'only this action, or the part before its point, such as user'))
    .option('--limit <count>', 'how many of the newest', (text) => readCount(text, 'limit'), 100)
    .addHelpText('after', `\nActions: ${auditActions.join(', ')}`)
    .addHelpText('after', 'Example: culvert audit-log list --since 24h --action user');
  addOutputOption(listing).action(async (options: ListOptions) => list(cli, options));
  addExport(command, cli);
  addVerify(command, cli);
}

async function list(cli: Cli, { since, user, action, limit, output }: ListOptions): Promise<void> {
  const client = await cli.client();
  const sinceMs = since === undefined ? undefined : String(cli.io.nowMs() - since);
  const query = { sinceMs, user, action, limit: String(limit) };
  const answer = await client.call<AuditList>({ method: 'GET', path: ['audit-log'], query });
  if (answer.unreadable > 0)
    cli.io.printError(`warning: ${answer.unreadable} lines cannot be read: culvert audit-log verify`);
  if (output !== 'table') return cli.io.print(renderData(answer.requests, output));
  if (answer.leftOut > 0) cli.io.printError(`${answer.leftOut} older requests are not shown: --limit`);
  if (answer.requests.length === 0) return cli.io.printError('there is no such request in the audit log');
  cli.io.print(renderRequests(answer.requests));
}

/** What the log has of a command on the controller's host for itself, and when it ran. */
const localFields: ReadonlySet<string> = new Set(['at', 'command', 'file']);

function renderRequests(requests: readonly AuditItem[]): string {
  const rows = requests.map(({ seq, at, user, source, action, target, result, code, detail }) => [
    String(seq),
    // The controller took it into its log later than that.
    source === 'local' && typeof detail['at'] === 'string' ? detail['at'] : at,
    user,
    source,
    action,
    target ?? '',
    // A request that never ended: the controller was killed.
    result === 'begun' ? 'no end' : code === null ? result : `${result} ${code}`,
    Object.entries(detail)
      .filter(([name]) => source !== 'local' || !localFields.has(name))
      .map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(',') : String(value)}`)
      .join(' '),
  ]);
  return renderTable(['SEQ', 'AT', 'USER', 'FROM', 'ACTION', 'TARGET', 'RESULT', 'DETAIL'], rows);
}

function addExport(command: Command, cli: Cli): void {
  command
    .command('export')
    .description('Write the lines of the log as they are, for culvert audit-log verify --file and other programs.')
    .option('--out <file>', 'write them to this new file instead of printing them')
    .addHelpText('after', '\nExample: culvert audit-log export --out audit.jsonl')
    .action(async ({ out }: { out?: string }) => {
      const client = await cli.client();
      if (out === undefined) {
        for await (const line of allLines(client)) cli.io.print(line);
        return;
      }
      const file = await open(out, 'wx', 0o600).catch((cause: unknown) => {
        throw usageError(`cannot write ${out}`, 'name a file that does not exist yet', cause);
      });
      const write = async (line: string): Promise<void> => {
        await file.writeFile(`${line}\n`).catch((cause: unknown) => {
          throw notWritten(out, cause);
        });
      };
      try {
        for await (const line of allLines(client)) await write(line);
        await file.sync();
      } catch (error) {
        await rm(out, { force: true });
        throw error;
      } finally {
        await file.close();
      }
    });
}

function notWritten(path: string, cause: unknown): CliError {
  return new CliError({
    exit: 'failed',
    code: 'OUTPUT_WRITE',
    message: `cannot write ${path}: ${describeError(cause)}; it was removed`,
    hint: 'free space there, or name a file on another disk',
    cause,
  });
}

function addVerify(command: Command, cli: Cli): void {
  command
    .command('verify')
    .description('Check that no line was changed, removed or put in, and name the first that was. Exit code 1 if so.')
    .option('-f, --file <path...>', 'check these files, oldest first, in place of what the controller has')
    .option('--expect <seq:hash>', 'the last line of an earlier verification, which must still be there')
    .addHelpText('after', '\nExample: culvert audit-log verify --file audit.jsonl')
    .action(async ({ file, expect }: VerifyOptions) => {
      const lines = file === undefined ? allLines(await cli.client()) : linesOfFiles(file);
      const expected = expect === undefined ? null : readHead(expect);
      const verifier = new ChainVerifier(expected === null ? {} : { expected });
      for await (const line of lines) verifier.add(line);
      const { verdict } = verifier;
      if (verdict.broken !== null) throw broken(verdict);
      cli.io.print(
        verdict.lines === 0
          ? 'the audit log is empty'
          : `${verdict.lines} lines are whole, from ${verdict.first ?? 0} to ${verdict.head.seq}: ${verdict.head.seq}:${verdict.head.hash}`,
      );
    });
}

function broken({ broken: found }: ChainVerdict): CliError {
  const { line, seq, problem } = found ?? { line: 0, seq: null, problem: '' };
  const which = seq === null ? `line ${line}` : `line ${line} (number ${seq})`;
  return new CliError({
    exit: 'failed',
    code: 'AUDIT_BROKEN',
    message: `the audit log is broken at ${which}: ${problem}`,
    hint: 'compare it with an export or a backup, and look for who can write to the state directory',
  });
}

async function* allLines(client: ApiClient): AsyncGenerator<string> {
  for (let after: number | null = 0; after !== null;) {
    const query = { after: String(after) };
    const page: AuditLines = await client.call<AuditLines>({ method: 'GET', path: ['audit-log', 'lines'], query });
    yield* page.lines;
    after = page.next;
  }
}

/** More than a file of the log has; larger exports can be split between lines. */
const maxFileBytes = 256 * 1024 * 1024;

async function* linesOfFiles(paths: readonly string[]): AsyncGenerator<string> {
  for (const path of paths) {
    const file = await readNamedFile(path, { maxBytes: maxFileBytes });
    const hint = 'name an export, or files of the folder audit of a state directory';
    if (!file.isRead) throw usageError(`cannot read ${path}: ${file.problem}`, hint, file.cause);
    yield* file.bytes
      .toString('utf8')
      .split('\n')
      .filter((line) => line !== '');
  }
}

function readHead(text: string): { readonly seq: number; readonly hash: string } {
  const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (seq !== undefined && hash !== undefined) return { seq: Number(seq), hash };
  throw usageError(`"${text}" is not the end of a verification`, 'copy NUMBER:HASH from the last line that it printed');
}
