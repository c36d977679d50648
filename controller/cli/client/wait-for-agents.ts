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

/** A wait for a rollout. `revision` undefined: the revision in force at the first answer. */
type Wait = {
  readonly client: ApiClient;
  readonly io: CliIo;
  readonly revision: number | undefined;
  /** Of the inventory; absent: only the rules are waited for. */
  readonly sequence?: number | undefined;
  readonly waitMs: number;
  /** Does not wait for silent agents. */
  readonly ignoreSilent: boolean;
};

export function isSettled(answer: RolloutAnswer, ignoreSilent: boolean): boolean {
  return ignoreSilent ? answer.isCompleteButSilent : answer.isComplete;
}

/** Polls until the rollout is complete or the time is over, and returns the last answer. The revision stays the same. */
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

/** The error that names the agents a rollout still waits for. */
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
    hint: waitMs === 0 ? 'wait for them with --wait 30s' : 'they keep trying; check them with: culvert status',
  });
}

/**
 * Implements `--wait` of commands that make a revision: waits until all workers of every agent that is not silent enforce
 * it, and prints how many agents do. Throws CliError (failed), which names the others.
 */
export async function waitForAgents(o: Omit<Wait, 'ignoreSilent'> & { readonly output: OutputFormat }): Promise<void> {
  const rollout = await settledRollout({ ...o, ignoreSilent: true });
  if (!rollout.isCompleteButSilent) throw agentsBehind(rollout, { ...o, ignoreSilent: true });
  const count = rollout.agents.filter(({ state }) => state === 'done').length;
  if (o.output === 'table') o.io.print(`enforced by ${count} ${count === 1 ? 'agent' : 'agents'}`);
  const silent = rollout.agents.filter(isSilent).map(({ node }) => node);
  if (silent.length > 0) o.io.printError(printable(`silent, so unknown: ${silent.join(', ')}`));
}
