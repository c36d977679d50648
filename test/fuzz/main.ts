import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Argument, Command, InvalidArgumentError } from 'commander';
import { patientMs } from '../lab/patience.js';
import { runTarget, type FuzzResult } from './run-target.js';
import { targets } from './targets.js';

/** `npm run fuzz`: gives mutated inputs to every parser that reads what others wrote. It ends with 1 if one fails. */
type FuzzOptions = {
  readonly seconds: number;
  readonly seed?: number;
  readonly input?: readonly string[];
  readonly output: string;
};

const names = targets.map(({ name }) => name);
const module = new URL('./targets.js', import.meta.url).href;

await new Command('fuzz')
  .description(
    `Gives mutated inputs to parsers, and saves the one that a parser does wrong.\n\n${targets
      .map(({ name, reads }) => `${name.padEnd(14)} ${reads}`)
      .join('\n')}`,
  )
  .addArgument(new Argument('[target...]', 'default: all, one after another').choices(names))
  .option('--seconds <number>', 'for each target', wholeNumber, 60)
  .option('--seed <number>', 'of the choices; default: another in each run', wholeNumber)
  .option('--input <file...>', 'give these files to the targets, as they are')
  .option('--output <directory>', 'where an input that fails is saved', 'fuzz-findings')
  .action(async (wanted: string[], options: FuzzOptions) => {
    for (const name of wanted.length === 0 ? names : wanted) {
      if (!(await fuzz(name, options))) process.exitCode = 1;
    }
  })
  .parseAsync();

async function fuzz(target: string, options: FuzzOptions): Promise<boolean> {
  const seed = options.seed ?? Math.floor(Math.random() * 2 ** 32);
  const only = options.input?.map((file) => readFileSync(file));
  const result = await runTarget({
    module,
    target,
    seed,
    durationMs: options.seconds * 1000,
    inputLimitMs: patientMs(10_000),
    heapLimitMb: 1024,
    ...(only && { only }),
  });
  console.log(lineOf(target, seed, result));
  if (result.finding === null) return true;
  mkdirSync(options.output, { recursive: true });
  const hash = createHash('sha256').update(result.finding.input).digest('hex').slice(0, 12);
  const file = path.join(options.output, `${target}-${hash}`);
  writeFileSync(file, result.finding.input);
  console.log(`  ${result.finding.problem}\n  the input is in ${file}: npm run fuzz -- ${target} --input ${file}`);
  return false;
}

function lineOf(target: string, seed: number, { inputs, outcomes, finding }: FuzzResult): string {
  const end = finding === null ? `nothing found, ${outcomes} different outcomes` : 'FOUND';
  return `${target.padEnd(14)} ${String(inputs).padStart(9)} inputs, seed ${seed}: ${end}`;
}

function wholeNumber(text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}
