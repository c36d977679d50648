import { Option, type Command } from 'commander';
import type { FlowsAnswer } from '../../api/api-types.js';
import type { ApiClient } from './api-client.js';
import { readDuration } from '../input/quantity-arguments.js';
import type { Cli } from '../cli.js';
import { formatAge } from '../view/format-time.js';

export type RecordedFlows = FlowsAnswer & {
  readonly sinceMs: number;
  /** What these records may lack, a sentence each. */
  readonly gaps: readonly string[];
};

/** `--since 24h`: how far back records are looked at. The value is in milliseconds. */
export function addSinceOption(command: Command, defaultText: string): Command {
  return command.addOption(
    new Option('--since <duration>', 'how far back to look at recorded connections, such as 24h or 7d')
      .argParser(readDuration)
      .default(readDuration(defaultText), defaultText),
  );
}

/** The records of the last `spanMs`, and what they lack, which is also printed: a conclusion from them needs to be known as such. */
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
    ...(isCurrent ? [] : ['the controller is still reading records, or NATS is away: the newest may be missing']),
    ...(flows.length === 0 ? ['no connection is recorded in this time'] : []),
    ...(leftOut > 0 ? [`${leftOut} older records were left out: take a shorter --since`] : []),
    ...(notKept > 0
      ? [`${notKept} connections are not recorded apart, because there were too many different ones`]
      : []),
    ...(oldestMs !== null && oldestMs > sinceMs + 60_000
      ? [`the oldest record is of ${formatAge(oldestMs, nowMs)}: of the time before nothing is known`]
      : []),
  ];
}
