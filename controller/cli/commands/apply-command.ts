import type { Command } from 'commander';
import { mayHoldPolicyTests } from '../../analysis/tests/policy-test-hint.js';
import { formatResourceId } from '../../resources/kinds/resource-key.js';
import type { ApplyAnswer } from '../../api/api-types.js';

import type { Cli } from '../cli.js';
import { CliError } from '../exit-codes.js';
import { readDuration } from '../input/quantity-arguments.js';
import { readMessage } from '../input/text-arguments.js';
import { readInput, type Input } from '../input/input-files.js';
import { countText } from '../view/amounts.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { waitForAgents } from '../client/wait-for-agents.js';

type Options = {
  file: string[];
  dryRun: boolean;
  message?: string;
  wait?: number;
  ignoreSilent: boolean;
  output: OutputFormat;
};

/** `culvert apply`: applies all documents of all files in one change, or none of them. */
export function addApplyCommand(program: Command, cli: Cli): void {
  const command = program
    .command('apply')
    .description('Apply resources: either all of them, or none when one has a problem.')
    .requiredOption('-f, --file <path...>', 'files, directories, or - for the standard input')
    .option('--dry-run', 'check and show what would change', false)
    .option('-m, --message <text>', 'why, for culvert history', readMessage)
    .option(
      '--wait <duration>',
      'wait until every agent that is not silent enforces it, the workloads in the files are captured and served, and what asks for it is accepted late, such as 30s. Exits with 1 when they are not',
      readDuration,
    )
    .option('--ignore-silent', 'do not wait for workloads whose agent is silent or has not joined', false);
  command.addHelpText('after', '\nExample: culvert apply -f rules/ --message CHG-1182 --wait 30s');
  addOutputOption(command).action(async (options: Options) => apply(cli, options));
}

async function apply(cli: Cli, { file, dryRun, message, wait, ignoreSilent, output }: Options): Promise<void> {
  const { io } = cli;
  const input = await readInput(file, io);
  const documents = await withoutAssertions(cli, input);
  const client = await cli.client();
  const body = { documents, dryRun, ...(message === undefined ? {} : { message }) };
  const answer = await cli.change<ApplyAnswer>(client, { method: 'POST', path: ['apply'], body }, input.locate);
  const warnings = answer.warnings.map(input.locate);
  if (output === 'table') {
    cli.printWarnings(warnings);
    io.print(renderChanges(answer));
  } else {
    io.print(renderData({ ...answer, warnings }, output));
  }
  if (wait === undefined || dryRun) return;
  const sequence = answer.inventory.changes > 0 ? answer.inventory.sequence : undefined;
  const workloads = appliedWorkloads(answer);
  const isLate = mayAskForLateAccept(answer, documents);
  await waitForAgents({
    client,
    io,
    revision: answer.revision,
    sequence,
    workloads,
    ignoreSilentWorkloads: ignoreSilent,
    isLate,
    waitMs: wait,
    output,
  });
}

/**
 * `namespace/name` of the workloads in the files, also of those that stay as they were: their agent may have been replaced, and
 * what was applied again is waited for like what is new.
 */
function appliedWorkloads({ changes }: ApplyAnswer): ReadonlySet<string> {
  const applied = changes.filter(({ kind }) => kind === 'Workload');
  return new Set(applied.map(({ namespace, name }) => `${namespace ?? ''}/${name}`));
}

const kindsWithPorts: ReadonlySet<string> = new Set(['Workload', 'Service', 'ServiceEntry']);

/** A port that is accepted late concerns every workload of the mesh, so other changes do not wait for that. */
function mayAskForLateAccept({ changes }: ApplyAnswer, documents: string): boolean {
  return changes.some(({ kind }) => kindsWithPorts.has(kind)) && /\bearlyAccept\b/.test(documents);
}

/** Files may also contain PolicyTests for `culvert test`. They are removed with a note, but must be valid. */
async function withoutAssertions(cli: Cli, input: Input): Promise<string> {
  if (!mayHoldPolicyTests(input.text)) return input.text;
  const { parsePolicyTests, withoutPolicyTests } = await import('../../analysis/tests/policy-test.js');
  const rest = withoutPolicyTests(input.text);
  if (rest.isEmpty || rest.text === input.text) return input.text;
  const { assertions, problems } = parsePolicyTests(input.text);
  if (problems.length > 0) {
    cli.printProblems(problems.map(input.locate));
    throw new CliError({
      exit: 'failed',
      code: 'INVALID_RESOURCES',
      message: 'a problem was found; nothing was changed',
      hint: 'fix the problems and apply again',
    });
  }
  cli.io.printError(
    `note: ${countText(assertions.length, 'assertion')} of PolicyTests not applied; check with: culvert test -f`,
  );
  return rest.text;
}

/** A line per document, then the revision in force and, when workloads or services changed, the inventory sequence. */
export function renderChanges({ changes, dryRun, revision, inventory }: Omit<ApplyAnswer, 'warnings'>): string {
  const suffix = dryRun ? ' (dry run)' : '';
  const lines = changes.map((change) => `${formatResourceId(change)} ${change.change}${suffix}`);
  return [...lines, dryRun ? `revision ${revision} stays in force` : renderHeld({ revision, inventory })].join('\n');
}

/** `revision 12, inventory 57`; without the second when nothing of it changed. */
export function renderHeld({ revision, inventory }: Pick<ApplyAnswer, 'revision' | 'inventory'>): string {
  return inventory.changes === 0 ? `revision ${revision}` : `revision ${revision}, inventory ${inventory.sequence}`;
}
