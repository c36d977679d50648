import { availableParallelism } from 'node:os';
import { Option, type Command } from 'commander';
import { http2EngineNames } from '../../agent/dataplane/settings.js';
import { CulvertError } from '../../shared/errors.js';
import { nearestName } from '../../shared/nearest-name.js';
import { type CaseId, caseIds, isCaseId } from './case-ids.js';

/** Options as given on the command line. */
export type BenchOptions = {
  readonly quick: boolean;
  readonly json: boolean;
  readonly only?: string;
  readonly rounds?: string;
  readonly seconds?: string;
  readonly workers: string;
  readonly engine?: string;
  readonly comparators?: string;
  readonly adapter: readonly string[];
  readonly output?: string;
  readonly sameHost: boolean;
  readonly writeReadme: boolean;
};

export function addBenchOptions(command: Command): Command {
  return command
    .option('--quick', 'one round of one second each, under 2 minutes, without nginx and stunnel', false)
    .option('--json', 'the last line of the standard output is JSON', false)
    .option('--only <ids>', `cases, separated by commas: ${caseIds.join(', ')}`)
    .option('--rounds <n>', 'measurements of each case on each path (3, quick: 1)')
    .option('--seconds <n>', 'length of one load (3, quick: 1)')
    .option(
      '--workers <n>',
      'threads of each agent and each comparator; default: half of the cores, because both hosts are on this machine',
      String(Math.min(4, Math.max(1, Math.floor(availableParallelism() / 2)))),
    )
    .addOption(new Option('--engine <name>', 'tunnel engine of the agents').choices([...http2EngineNames]))
    .option('--comparators <names>', 'names of adapters, separated by commas; default: all that can run')
    .option('--adapter <file>', 'another comparator (see test/bench/adapters); may be repeated', collect, [])
    .option('--same-host', 'both workloads on one host, where the mesh needs no tunnel; without goals', false)
    .option('--output <file>', 'write all measurements as JSON')
    .option(
      '--write-readme',
      'put tables and picture into deploy/docs/benchmarks.md, and three rows into README.md',
      false,
    );
}

/** Cases for one host: those that move bytes. Memory is the same as between two hosts. */
const sameHostIds: readonly CaseId[] = ['bulk-1', 'bulk-4', 'keepalive-1', 'keepalive-32', 'newconn', 'small-messages'];

/** The cases with `--same-host`. */
export function usualCases({ sameHost }: Pick<BenchOptions, 'sameHost'>): readonly CaseId[] {
  return sameHost ? sameHostIds : caseIds;
}

/** The cases in `--only`; default: the usual ones. Throws `BAD_OPTION`. */
export function chosenCases({ only, sameHost }: Pick<BenchOptions, 'only' | 'sameHost'>): readonly CaseId[] {
  if (only === undefined) return usualCases({ sameHost });
  const wanted = only.split(',').map((text) => text.trim());
  const unknown = wanted.find((text) => !isCaseId(text));
  if (unknown !== undefined) {
    const nearest = nearestName(unknown, caseIds);
    const hint = nearest === undefined ? `there are ${caseIds.join(', ')}` : `did you mean "${nearest}"?`;
    throw new CulvertError({ code: 'BAD_OPTION', message: `--only: there is no case "${unknown}"`, hint });
  }
  return caseIds.filter((id) => wanted.includes(id));
}

/** Throws `BAD_OPTION` unless the text is a whole number from 1. */
export function countOption(text: string, option: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  const hint = 'write a number from 1';
  throw new CulvertError({ code: 'BAD_OPTION', message: `${option} ${text} is not a whole number from 1`, hint });
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
