import process from 'node:process';
import { Command } from 'commander';
import { CulvertError, describeError } from '../../shared/errors.js';
import { AttackLab } from './attack-lab.js';
import { inTurns, type Phase, phases } from './attack-rounds.js';
import { type Attack, attacks } from './attack-table.js';
import { type NeighbourProtocol, quantileUs } from './attacked-neighbour.js';
import { countOption } from './bench-options.js';
import { machineText, thisMachine } from './machine.js';
import { shortJson } from './report-json.js';
import { aligned } from './report-table.js';
import { spreadOf } from './spread.js';
import { withPrograms } from './with-programs.js';

type Options = { json: boolean; rounds: string; exchanges: string; only?: string };

/** Of one neighbour, milliseconds: medians over the rounds. */
type Suffered = {
  readonly id: string;
  readonly title: string;
  readonly neighbour: NeighbourProtocol;
  readonly what: 'exchange' | 'new connection';
  readonly p50Ms: Readonly<Record<Phase, number>>;
  readonly p99Ms: Readonly<Record<Phase, number>>;
};

/** `attacks`: what a neighbour notices while one workload or one stranger does its worst. */
export function attackCommand(): Command {
  return new Command('attacks')
    .description("A neighbour's p99 without an attack, with it, and with the same load on another server (needs root).")
    .option('--json', 'the last line of the standard output is JSON', false)
    .option('--rounds <n>', 'times that the three take turns', '5')
    .option('--exchanges <n>', 'exchanges of the neighbour in each, and a quarter as many new connections', '800')
    .option('--only <ids>', `some of ${attacks.map(({ id }) => id).join(', ')}`)
    .action(withPrograms(run));
}

async function run(options: Options): Promise<void> {
  const rounds = countOption(options.rounds, '--rounds');
  const exchanges = countOption(options.exchanges, '--exchanges');
  const chosen = chosenAttacks(options.only);
  const machine = await thisMachine();
  await using lab = await AttackLab.start();
  const results: Suffered[] = [];
  for (const attack of chosen) {
    say(attack.title);
    results.push(...(await suffer(lab, attack, { rounds, exchanges }).catch((error: unknown) => failed(error))));
  }
  process.stdout.write(`${[machineText(machine), '', ...table(results)].join('\n')}\n`);
  if (options.json) process.stdout.write(`${shortJson({ attacks: results, machine })}\n`);
}

/** What a neighbour met that did not come to its end is what the attack is about. */
function failed(error: unknown): Suffered[] {
  process.exitCode = 1;
  say(describeError(error));
  return [];
}

async function suffer(
  lab: AttackLab,
  attack: Attack,
  { rounds, exchanges }: { readonly rounds: number; readonly exchanges: number },
): Promise<Suffered[]> {
  const results: Suffered[] = [];
  for (const protocol of neighboursOf(attack)) {
    await using neighbour = await lab.neighbour(protocol);
    const { met, done } = await inTurns({ lab, attack, neighbour, phases, rounds, exchanges });
    say(`  ${protocol}: ${JSON.stringify({ attack: done.attack, control: done.control })}`);
    for (const [what, of] of [
      ['exchange', 'exchangesUs'],
      ['new connection', 'opensUs'],
    ] as const) {
      const ofPhases = (share: number): Record<Phase, number> => {
        const median = (phase: Phase): number =>
          spreadOf(met[phase].map((each) => quantileUs(each[of], share) / 1000)).median;
        return { quiet: median('quiet'), attack: median('attack'), control: median('control') };
      };
      const { id, title } = attack;
      results.push({ id, title, neighbour: protocol, what, p50Ms: ofPhases(0.5), p99Ms: ofPhases(0.99) });
    }
  }
  return results;
}

/** A workload's client, and who uses what is attacked. */
function neighboursOf({ to }: Attack): NeighbourProtocol[] {
  if (to === 'health') return ['echo', 'http'];
  return to === 'API' ? ['echo', 'https'] : ['echo'];
}

function chosenAttacks(only: string | undefined): readonly Attack[] {
  if (only === undefined) return attacks;
  return only.split(',').map((id) => {
    const found = attacks.find((attack) => attack.id === id.trim());
    if (found !== undefined) return found;
    const hint = `there are ${attacks.map((attack) => attack.id).join(', ')}`;
    throw new CulvertError({ code: 'BAD_OPTION', message: `--only: there is no "${id}"`, hint });
  });
}

function table(results: readonly Suffered[]): string[] {
  const text = (ms: number): string => ms.toFixed(2);
  const rows = results.map(({ title, neighbour, what, p50Ms, p99Ms }) => [
    title,
    `${neighbour}, ${what}`,
    ...phases.map((phase) => `${text(p50Ms[phase])}, ${text(p99Ms[phase])}`),
    `${text(p99Ms.attack / p99Ms.quiet)} ×`,
    `${text(p99Ms.attack / p99Ms.control)} ×`,
  ]);
  const head = [
    'attack',
    'p50 and p99 in ms of',
    'quiet',
    'attack',
    'same load elsewhere',
    'p99: of quiet',
    'of elsewhere',
  ];
  return aligned([head, ...rows]);
}

function say(line: string): void {
  process.stderr.write(`# ${String(Math.round(process.uptime())).padStart(3)} s  ${line}\n`);
}
