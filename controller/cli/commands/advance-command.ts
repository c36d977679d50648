import type { Command } from 'commander';
import type { AdvanceAnswer } from '../../api/api-types.js';
import type { Cli } from '../cli.js';
import { waitForAgents } from '../client/wait-for-agents.js';
import { readCount, readDuration } from '../input/quantity-arguments.js';
import { readMessage } from '../input/text-arguments.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { printable } from '../view/table.js';

type Options = {
  revision?: number;
  sequence?: number;
  dryRun: boolean;
  message?: string;
  wait?: number;
  output: OutputFormat;
};

/** `culvert advance`: makes a restored state count for agents that hold a later one. */
export function addAdvanceCommand(program: Command, cli: Cli): void {
  const command = program
    .command('advance')
    .description(
      'After an older backup of the controller was restored: give the restored rules and registry numbers above those that agents hold, so that agents take them.',
    )
    .option('--revision <number>', 'the new revision; default: above that of every agent', (text) =>
      readCount(text, 'revision'),
    )
    .option('--sequence <number>', 'the new sequence of the inventory; default: above that of every agent', (text) =>
      readCount(text, 'sequence'),
    )
    .option('--dry-run', 'only show what agents hold, and the numbers', false)
    .option('-m, --message <text>', 'why, for culvert history', readMessage)
    .option('--wait <duration>', 'wait until every agent that is not silent enforces it, such as 30s', readDuration)
    .addHelpText('after', '\nExample: culvert advance --message "restored the backup of Monday" --wait 30s');
  addOutputOption(command).action(async (options: Options) => advance(cli, options));
}

async function advance(cli: Cli, { wait, output, ...body }: Options): Promise<void> {
  const { io } = cli;
  const client = await cli.client();
  const answer = await client.call<AdvanceAnswer>({ method: 'POST', path: ['advance'], body });
  io.print(output === 'table' ? renderAdvance(answer) : renderData(answer, output));
  if (wait === undefined || answer.dryRun) return;
  const { revision, sequence } = answer;
  await waitForAgents({ client, io, revision, sequence, waitMs: wait, output });
}

function renderAdvance({ revision, sequence, before, dryRun, ahead, unbelievable }: AdvanceAnswer): string {
  const lines = [
    ...ahead.map((agent) => `${agent.node} holds revision ${agent.revision} with inventory ${agent.sequence}`),
    ...unbelievable.map(
      (agent) =>
        `not believed: ${agent.node} says revision ${agent.revision} with inventory ${agent.sequence}; was that host broken into?`,
    ),
    `revision ${before.revision} ${dryRun ? 'would become' : 'is now'} ${revision}, inventory ${before.sequence} ${sequence}`,
  ];
  return lines.map(printable).join('\n');
}
