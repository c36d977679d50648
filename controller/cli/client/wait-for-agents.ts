import { setTimeout as delay } from 'node:timers/promises';
import type { RolloutAnswer, Uncaptured } from '../../api/api-types.js';
import { mayBeExpected, mayBeUncaptured } from '../../fleet/capture-progress.js';
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
  /** Workloads to wait for until their agent captures them; absent: not asked. */
  readonly workloads?: ReadonlySet<string> | undefined;
  /** Does not wait for those of them whose agent is silent or missing. */
  readonly ignoreSilentWorkloads?: boolean | undefined;
  /** Waits until no captured workload's connects are accepted early at ports with `earlyAccept: false`. */
  readonly isLate?: boolean | undefined;
};

export function isSettled(answer: RolloutAnswer, ignoreSilent: boolean): boolean {
  return ignoreSilent ? answer.isCompleteButSilent : answer.isComplete;
}

/**
 * Polls until the rollout is complete, the workloads are captured and connects accepted late, or the time is over, and
 * returns the last answer. The revision stays the same.
 */
export async function settledRollout({
  client,
  io,
  revision,
  sequence,
  waitMs,
  ignoreSilent,
  workloads,
  ignoreSilentWorkloads = false,
  isLate = false,
}: Wait): Promise<RolloutAnswer> {
  const deadlineMs = io.nowMs() + waitMs;
  let asked = revision;
  for (;;) {
    const capture = workloads === undefined ? undefined : 'true';
    const query = { revision: asked?.toString(), inventory: sequence?.toString(), capture };
    const answer = await client.call<RolloutAnswer>({ method: 'GET', path: ['rollout'], query });
    const uncaptured = answer.uncaptured ?? noneUncaptured;
    const isMissing = workloads !== undefined && mayBeMissing(ignoreSilentWorkloads)(uncaptured, workloads);
    const isEarly = isLate && earlyOf(answer).total > 0;
    if ((isSettled(answer, ignoreSilent) && !isMissing && !isEarly) || io.nowMs() >= deadlineMs) return answer;
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
    hint: behindHint(behind.every(isSilent), waitMs),
  });
}

function behindHint(areSilent: boolean, waitMs: number): string {
  if (areSilent)
    return 'start culvert-agent there, pass --ignore-silent, or remove a node for good: culvert node remove NODE';
  return waitMs === 0 ? 'wait for them with --wait 30s' : 'they keep trying; check them with: culvert status';
}

function mayBeMissing(ignoreSilent: boolean): typeof mayBeExpected {
  return ignoreSilent ? mayBeExpected : mayBeUncaptured;
}

const noneUncaptured: Uncaptured = { workloads: [], total: 0 };

/** A controller of an earlier version does not say. */
function earlyOf({ acceptedEarly }: Partial<RolloutAnswer>): Uncaptured {
  return acceptedEarly ?? noneUncaptured;
}

/** The error that names the workloads whose connects are still accepted early, whatever the port asks for. */
function acceptedEarly(early: Uncaptured, waitMs: number): CliError {
  return new CliError({
    exit: 'failed',
    code: 'CONNECTS_ACCEPTED_EARLY',
    message: `after ${formatSpan(waitMs)} earlyAccept: false has no effect for these workloads: ${uncapturedText(early)}`,
    hint: 'all rules are enforced, and their agents keep trying; check them with: culvert check',
  });
}

const noWorkloads: ReadonlySet<string> = new Set();

/** The error that names the workloads which this change makes or changes, and for which nothing is enforced yet. */
function notCaptured(uncaptured: Uncaptured, waitMs: number): CliError {
  return new CliError({
    exit: 'failed',
    code: 'WORKLOADS_NOT_CAPTURED',
    message: `after ${formatSpan(waitMs)} these workloads are not captured and served by an agent that runs: ${uncapturedText(uncaptured)}`,
    hint: uncaptured.workloads.every(({ isExpected }) => isExpected)
      ? 'their agents keep trying; check them with: culvert check'
      : 'start or join the agents there; --ignore-silent does not wait for workloads whose agent is silent or missing',
  });
}

const maxListed = 10;

function uncapturedText({ workloads, total }: Uncaptured): string {
  const shown = workloads
    .slice(0, maxListed)
    .map(({ workload, node, problem }) => `${workload} on ${node} (${problem})`);
  const more = total - shown.length;
  return printable([...shown, ...(more > 0 ? [`and ${more} more`] : [])].join(', '));
}

/**
 * Implements `--wait` of commands that change something: waits until all workers of every agent that is not silent
 * enforce it, the workloads in it are captured and, if asked, connects are accepted late, and prints how many agents
 * do. Throws CliError (failed), which names the others. Lists the other workloads of the mesh that no running agent captures.
 */
export async function waitForAgents(o: Omit<Wait, 'ignoreSilent'> & { readonly output: OutputFormat }): Promise<void> {
  const { workloads = noWorkloads, ignoreSilentWorkloads = false, waitMs, output, io } = o;
  const rollout = await settledRollout({ ...o, workloads, ignoreSilent: true });
  if (!rollout.isCompleteButSilent) throw agentsBehind(rollout, { waitMs, ignoreSilent: true });
  const uncaptured = rollout.uncaptured ?? noneUncaptured;
  const awaited = uncaptured.workloads.filter(
    ({ workload, isExpected }) => (isExpected || !ignoreSilentWorkloads) && workloads.has(workload),
  );
  if (awaited.length > 0) throw notCaptured({ workloads: awaited, total: awaited.length }, waitMs);
  if (mayBeMissing(ignoreSilentWorkloads)(uncaptured, workloads)) throw notCaptured(uncaptured, waitMs);
  const early = earlyOf(rollout);
  if (o.isLate === true && early.total > 0) throw acceptedEarly(early, waitMs);
  const count = rollout.agents.filter(({ state }) => state === 'done').length;
  if (output === 'table') io.print(`enforced by ${count} ${count === 1 ? 'agent' : 'agents'}`);
  const silent = rollout.agents.filter(isSilent).map(({ node }) => node);
  if (silent.length > 0) io.printError(printable(`silent, so unknown: ${silent.join(', ')}`));
  const troubled = (rollout.troubled ?? noneUncaptured).workloads.filter(({ workload }) => workloads.has(workload));
  if (troubled.length > 0) {
    io.printError(
      `warning: captured, with a problem: ${uncapturedText({ workloads: troubled, total: troubled.length })}`,
    );
  }
  if (uncaptured.total > 0)
    io.printError(`not captured and served by an agent that runs: ${uncapturedText(uncaptured)}`);
}
