import { setTimeout as delay } from 'node:timers/promises';
import type { RolloutAnswer } from '../../api/api-types.js';
import { isSilent } from '../../fleet/rollout-progress.js';
import type { ApiClient } from './api-client.js';
import type { CliIo } from '../cli-io.js';
import { CliError } from '../exit-codes.js';
import { formatSpan } from '../view/format-time.js';
import type { OutputFormat } from '../view/output-format.js';
import { printable } from '../view/table.js';

const pollMs = 200;

/** What a command asks with. `revision` undefined: the one that is present at the first answer. */
type Wait = {
  readonly client: ApiClient;
  readonly io: CliIo;
  readonly revision: number | undefined;
  /** Of the inventory; absent: only the rules are waited for. */
  readonly sequence?: number | undefined;
  readonly waitMs: number;
  /** Not to wait for agents that are not heard of. */
  readonly ignoreSilent: boolean;
};

export function isSettled(answer: RolloutAnswer, ignoreSilent: boolean): boolean {
  return ignoreSilent ? answer.isCompleteButSilent : answer.isComplete;
}

/** The first answer that is complete, or that of the moment when the time is over. Asks always for the same revision. */
export async function settledRollout({
  client,
  io,
  revision,
  sequence,
  waitMs,
  ignoreSilent,
}: Wait): Promise<RolloutAnswer> {
  const deadlineMs = io.nowMs() + waitMs;
  let asked = revision;
  for (;;) {
    const query = { revision: asked?.toString(), inventory: sequence?.toString() };
    const answer = await client.call<RolloutAnswer>({ method: 'GET', path: ['rollout'], query });
    if (isSettled(answer, ignoreSilent) || io.nowMs() >= deadlineMs) return answer;
    asked = answer.revision;
    await delay(pollMs);
  }
}

/** Names the agents that a rollout still waits for. */
export function agentsBehind(
  { agents, revision, sequence }: RolloutAnswer,
  { waitMs, ignoreSilent }: Pick<Wait, 'waitMs' | 'ignoreSilent'>,
): CliError {
  const behind = agents.filter((agent) => agent.state !== 'done' && !(ignoreSilent && isSilent(agent)));
  const names = printable(behind.map((agent) => agent.node + (isSilent(agent) ? ' (silent)' : '')).join(', '));
  const after = waitMs === 0 ? '' : `after ${formatSpan(waitMs)} `;
  return new CliError({
    exit: 'failed',
    code: 'AGENTS_BEHIND',
    message: `${after}these agents do not enforce revision ${revision}${sequence === null ? '' : ` with inventory ${sequence}`} yet: ${names}`,
    hint: waitMs === 0 ? 'wait for them with --wait 30s' : 'they go on trying; look at them with: culvert status',
  });
}

/**
 * For `--wait` of what makes a revision: waits until every agent that can be heard enforces it in all its workers, and
 * says how many these are. Throws CliError (failed) that names the others.
 */
export async function waitForAgents(o: Omit<Wait, 'ignoreSilent'> & { readonly output: OutputFormat }): Promise<void> {
  const rollout = await settledRollout({ ...o, ignoreSilent: true });
  if (!rollout.isCompleteButSilent) throw agentsBehind(rollout, { ...o, ignoreSilent: true });
  const count = rollout.agents.filter(({ state }) => state === 'done').length;
  if (o.output === 'table') o.io.print(`enforced by ${count} ${count === 1 ? 'agent' : 'agents'}`);
  const silent = rollout.agents.filter(isSilent).map(({ node }) => node);
  if (silent.length > 0) o.io.printError(printable(`not heard of, so unknown: ${silent.join(', ')}`));
}
