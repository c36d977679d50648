import { Option, type Command } from 'commander';
import type { FlowsAnswer } from '../../api/api-types.js';
import type { ApiClient } from './api-client.js';
import { readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
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

/** The records of the last `spanMs`. Prints their gaps, so that the user can judge what follows from them. */
export async function loadFlows(cli: Cli, client: ApiClient, spanMs: number): Promise<RecordedFlows> {
  const nowMs = cli.io.nowMs();
  const sinceMs = Math.max(0, nowMs - spanMs);
  const query = { sinceMs: String(sinceMs) };
  const answer = await client.call<FlowsAnswer>({ method: 'GET', path: ['flows'], query });
  const gaps = gapsOf(answer, sinceMs, nowMs);
  for (const gap of gaps) cli.io.printError(`note: ${gap}`);
  return { ...answer, sinceMs, gaps };
}

function gapsOf(answer: FlowsAnswer, sinceMs: number, nowMs: number): string[] {
  const { flows, isCurrent, leftOut, notKept, oldestMs } = answer;
  return [
    ...(isCurrent ? [] : ['the controller is still reading records or NATS is unavailable: the newest may be missing']),
    ...(flows.length === 0 ? ['no connection was recorded in this time'] : []),
    ...(leftOut > 0 ? [`${leftOut} older records were left out: use a shorter --since`] : []),
    ...(notKept > 0
      ? [`${notKept} connections have no record of their own, because there were too many different ones`]
      : []),
    ...(oldestMs !== null && oldestMs > sinceMs + 60_000
      ? [`the oldest record is from ${formatAge(oldestMs, nowMs)}: nothing is known about the time before`]
      : []),
  ];
}
