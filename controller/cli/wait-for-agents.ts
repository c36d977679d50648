import { setTimeout as delay } from 'node:timers/promises';
import type { StatusAnswer } from '../api/api-types.js';
import type { ApiClient } from './api-client.js';
import type { CliIo } from './cli-io.js';
import { CliError } from './exit-codes.js';
import { formatSpan } from './format-time.js';

const pollMs = 200;

type Agent = StatusAnswer['agents'][number];

/**
 * Waits until every agent that is alive enforces a revision in all its workers; how many these are is the result.
 * Throws CliError (failed) that names the others when `timeoutMs` have passed.
 */
export async function waitForAgents(init: {
  readonly client: ApiClient;
  readonly io: CliIo;
  readonly revision: number;
  readonly timeoutMs: number;
}): Promise<number> {
  const { client, io, revision, timeoutMs } = init;
  const deadlineMs = io.nowMs() + timeoutMs;
  for (;;) {
    const { agents } = await client.call<StatusAnswer>({ method: 'GET', path: ['status'] });
    const alive = agents.filter(({ state }) => state !== 'stale' && state !== 'joined');
    const behind = alive.filter((agent) => !enforces(agent, revision));
    if (behind.length === 0) return alive.length;
    if (io.nowMs() >= deadlineMs) throw tooLate(behind, revision, timeoutMs);
    await delay(pollMs);
  }
}

function enforces({ heartbeat }: Agent, revision: number): boolean {
  return heartbeat !== null && heartbeat.enforcedByAllWorkers && (heartbeat.appliedRevision ?? 0) >= revision;
}

function tooLate(behind: readonly Agent[], revision: number, timeoutMs: number): CliError {
  const names = behind.map(({ node }) => node).join(', ');
  return new CliError({
    exit: 'failed',
    code: 'AGENTS_BEHIND',
    message: `after ${formatSpan(timeoutMs)} these agents do not enforce revision ${revision} yet: ${names}`,
    hint: 'it is applied and they go on trying; look at them with: culvert status',
  });
}
