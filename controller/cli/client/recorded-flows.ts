import { Option, type Command } from 'commander';
import type { FlowsAnswer } from '../../api/api-types.js';
import type { ApiClient } from './api-client.js';
import { readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
import { countText } from '../view/amounts.js';
import { formatAge } from '../view/format-time.js';

export type RecordedFlows = FlowsAnswer & {
  readonly sinceMs: number;
  /** Reasons why the records may be incomplete, one sentence each. */
  readonly gaps: readonly string[];
};

/** Adds `--since 24h`: how far back to read records. The value is in milliseconds. */
export function addSinceOption(command: Command, defaultText: string): Command {
  return command.addOption(
    new Option('--since <duration>', 'how far back to look at recorded connections, such as 24h or 7d')
      .argParser(readDuration)
      .default(readDuration(defaultText), defaultText),
  );
}

/**
 * The records of the last `spanMs`. Prints their gaps and up to when they are complete, so that the user can judge what
 * follows from them.
 */
export async function loadFlows(cli: Cli, client: ApiClient, spanMs: number): Promise<RecordedFlows> {
  const nowMs = cli.io.nowMs();
  const sinceMs = Math.max(0, nowMs - spanMs);
  const query = { sinceMs: String(sinceMs) };
  const answer = await client.call<FlowsAnswer>({ method: 'GET', path: ['flows'], query });
  const gaps = gapsOf(answer, sinceMs, nowMs);
  for (const gap of gaps) cli.io.printError(`note: ${gap}`);
  const fresh = freshnessOf(answer, nowMs);
  if (fresh !== null) cli.io.printError(`note: ${fresh}`);
  return { ...answer, sinceMs, gaps };
}

/** One sentence; null when the controller does not say. */
function freshnessOf({ isCurrent, asOfMs }: FlowsAnswer, nowMs: number): string | null {
  if (asOfMs === undefined || !isCurrent) return null;
  if (asOfMs === null) return 'no agent reports connections now';
  return `the records are complete up to ${formatAge(asOfMs, nowMs)}`;
}

/** Names of nodes in one note. */
const maxNamed = 5;

function behindText(behind: NonNullable<FlowsAnswer['behind']>, nowMs: number): string[] {
  if (behind.length === 0) return [];
  const named = behind.slice(0, maxNamed).map(({ node, asOfMs }) => {
    const since = asOfMs === null ? 'nothing yet' : `nothing since ${formatAge(asOfMs, nowMs)}`;
    return `${node} (${since})`;
  });
  const more = behind.length > maxNamed ? ` and ${behind.length - maxNamed} more` : '';
  return [`the newest connections of nodes that report late are missing: ${named.join(', ')}${more}`];
}

function gapsOf(answer: FlowsAnswer, sinceMs: number, nowMs: number): string[] {
  const { flows, isCurrent, leftOut, notKept, oldestMs, lost = 0, behind = [] } = answer;
  return [
    ...(isCurrent ? [] : ['the controller is still reading records or NATS is unavailable: the newest may be missing']),
    ...(flows.length === 0 ? ['no connection was recorded in this time'] : []),
    ...(leftOut > 0 ? [`${countText(leftOut, 'older record')} left out: use a shorter --since`] : []),
    ...(notKept > 0
      ? [
          `${countText(notKept, 'connection')} without a record of ${notKept === 1 ? 'its' : 'their'} own, because there were too many different ones`,
        ]
      : []),
    ...(lost > 0
      ? [`${countText(lost, 'connection')} in no record: agents were killed before they reported them`]
      : []),
    ...behindText(behind, nowMs),
    ...(oldestMs !== null && oldestMs > sinceMs + 60_000
      ? [`the oldest record is from ${formatAge(oldestMs, nowMs)}: nothing is known about the time before`]
      : []),
  ];
}
