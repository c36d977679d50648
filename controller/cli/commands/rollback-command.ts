import type { Command } from 'commander';
import type { RollbackAnswer } from '../../api/api-types.js';

import { renderChanges } from './apply-command.js';
import { readCount, readDuration } from '../input/quantity-arguments.js';
import { readMessage } from '../input/text-arguments.js';
import type { Cli } from '../cli.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { waitForAgents } from '../client/wait-for-agents.js';

type Options = { dryRun: boolean; message?: string; wait?: number; output: OutputFormat };

/** `culvert rollback`: restores the rules of an earlier revision, as a new revision. */
export function addRollbackCommand(program: Command, cli: Cli): void {
  const command = program
    .command('rollback')
    .description('Restore the rules of an earlier revision, as a new revision. Workloads and Services do not change.')
    .argument('<revision>', 'the revision to restore, from culvert history', (text) => readCount(text, 'revision'))
    .option('--dry-run', 'check and show what would change', false)
    .option('-m, --message <text>', 'why, for culvert history', readMessage)
    .option('--wait <duration>', 'wait until every agent that is not silent enforces it, such as 30s', readDuration)
    .addHelpText('after', '\nExample: culvert rollback 11 --message "INC-42: the new rule cut billing" --wait 30s');
  addOutputOption(command).action(async (revision: number, options: Options) => rollback(cli, revision, options));
}

async function rollback(cli: Cli, revision: number, { dryRun, message, wait, output }: Options): Promise<void> {
  const { io } = cli;
  const client = await cli.client();
  const body = { revision, dryRun, ...(message === undefined ? {} : { message }) };
  const answer = await cli.change<RollbackAnswer>(client, { method: 'POST', path: ['rollback'], body });
  if (output === 'table') {
    cli.printWarnings(answer.warnings);
    io.print(answer.changes.length === 0 ? renderNothing(answer) : renderChanges(answer));
  } else io.print(renderData(answer, output));
  if (wait === undefined || dryRun) return;
  await waitForAgents({ client, io, revision: answer.revision, waitMs: wait, output });
}

function renderNothing({ revision, rollbackOf }: RollbackAnswer): string {
  return `revision ${rollbackOf} has the same rules as revision ${revision}, which stays in force`;
}
