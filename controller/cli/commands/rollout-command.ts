import type { Command } from 'commander';
import type { RolloutAnswer } from '../../api/api-types.js';
import { readCount, readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
import { addOutputOption, renderData, type OutputFormat } from '../view/output-format.js';
import { renderTable } from '../view/table.js';
import { agentsBehind, isSettled, settledRollout } from '../client/wait-for-agents.js';

type Options = { revision?: number; wait?: number; ignoreSilent?: boolean; output: OutputFormat };

/** `culvert rollout status`: shows which agents enforce a revision, and why the others do not. */
export function addRolloutCommand(program: Command, cli: Cli): void {
  const rollout = program.command('rollout').description('Show the rollout of a revision.');
  const status = rollout
    .command('status')
    .description('Show which agents enforce a revision. Exits with 1 when one does not.')
    .option('--revision <number>', 'the revision; default: the one in force', (text) => readCount(text, 'revision'))
    .option('--wait <duration>', 'wait up to this long until all of them do, such as 30s', readDuration)
    .option('--ignore-silent', 'do not fail for agents that send no heartbeats; they are still listed')
    .addHelpText('after', '\nExample: culvert rollout status --wait 30s');
  addOutputOption(status).action(async ({ revision, wait = 0, ignoreSilent = false, output }: Options) => {
    const client = await cli.client();
    const answer = await settledRollout({ client, io: cli.io, revision, waitMs: wait, ignoreSilent });
    cli.io.print(output === 'table' ? renderRollout(answer) : renderData(answer, output));
    if (!isSettled(answer, ignoreSilent)) throw agentsBehind(answer, { waitMs: wait, ignoreSilent });
  });
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
