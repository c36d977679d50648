import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import type { RolloutAnswer } from '../api/api-types.js';
import { readDuration } from './apply-command.js';
import type { Cli } from './cli.js';
import { readCount } from './count-argument.js';
import { CliError } from './exit-codes.js';
import { formatSpan } from './format-time.js';
import { addOutputOption, renderData, type OutputFormat } from './output-format.js';
import { printable, renderTable } from './table.js';

type Options = { revision?: number; wait?: number; output: OutputFormat };

const pollMs = 200;

/** `culvert rollout status`: which agents enforce a revision, and why the others do not. */
export function addRolloutCommand(program: Command, cli: Cli): void {
  const rollout = program.command('rollout').description('See how far a revision has got.');
  const status = rollout
    .command('status')
    .description('Show which agents enforce a revision. Ends with 1 when one that can be heard does not.')
    .option('--revision <number>', 'the revision; the present one unless given', (text) => readCount(text, 'revision'))
    .option('--wait <duration>', 'wait so long until all of them do, such as 30s', readDuration)
    .addHelpText('after', '\nExample: culvert rollout status --wait 30s');
  addOutputOption(status).action(async ({ revision, wait = 0, output }: Options) => {
    const answer = await settledRollout(cli, revision, wait);
    cli.io.print(output === 'table' ? renderRollout(answer) : renderData(answer, output));
    if (!answer.isComplete) throw incomplete(answer, wait);
  });
}

/** The first answer that is complete, or that of the moment when the time is over. Asks always for the same revision. */
async function settledRollout(cli: Cli, wanted: number | undefined, waitMs: number): Promise<RolloutAnswer> {
  const client = await cli.client();
  const deadlineMs = cli.io.nowMs() + waitMs;
  let revision = wanted;
  for (;;) {
    const query = { revision: revision === undefined ? undefined : String(revision) };
    const answer = await client.call<RolloutAnswer>({ method: 'GET', path: ['rollout'], query });
    if (answer.isComplete || cli.io.nowMs() >= deadlineMs) return answer;
    revision = answer.revision;
    await delay(pollMs);
  }
}

export function renderRollout({ revision, isComplete, agents }: RolloutAnswer): string {
  const done = agents.filter(({ state }) => state === 'done').length;
  const head = `revision ${revision}: ${isComplete ? 'complete' : 'not complete'}, enforced by ${done} of ${agents.length} agents`;
  if (agents.length === 0) return head;
  const rows = agents.map(({ node, state, appliedRevision, problem }) => [
    node,
    state,
    appliedRevision === null ? '' : String(appliedRevision),
    problem ?? '',
  ]);
  return `${head}\n\n${renderTable(['NODE', 'STATE', 'REVISION', 'PROBLEM'], rows)}`;
}

function incomplete({ agents, revision }: RolloutAnswer, waitMs: number): CliError {
  const behind = agents.filter(({ state }) => state !== 'done' && state !== 'stale' && state !== 'joined');
  const names = printable(behind.map(({ node }) => node).join(', '));
  const after = waitMs === 0 ? '' : `after ${formatSpan(waitMs)} `;
  return new CliError({
    exit: 'failed',
    code: 'AGENTS_BEHIND',
    message: `${after}these agents do not enforce revision ${revision} yet: ${names}`,
    hint: waitMs === 0 ? 'wait for them with --wait 30s' : 'they go on trying; look at them with: culvert status',
  });
}
