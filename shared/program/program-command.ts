import { Command } from 'commander';
import { nearestName } from '../nearest-name.js';
import { version } from '../version.js';
import { shortened } from './failure-line.js';
import { refuseUnusableTexts } from './named-texts.js';

/** Where a program prints. A text has no newline at its end. */
export type ProgramOutput = {
  readonly print: (text: string) => void;
  readonly printError: (text: string) => void;
};

/** Of the programs that run until they are stopped. */
export const daemonExitCodes =
  'Exit codes: 0 done, 64 the command line or a file that it names is unusable, 1 any other failure';

/**
 * The root of the command line of each of the three programs, so that all of them answer a wrong one alike: one line that
 * begins with the program's name, and CommanderError, whose exit code `exitOf` has. Commands inherit it.
 */
export function programCommand(o: {
  readonly name: string;
  readonly description: string;
  /** What `--help` says of exit codes. */
  readonly exitCodes: string;
  readonly output: ProgramOutput;
}): Command {
  const { print, printError } = o.output;
  return new Command(o.name)
    .description(o.description)
    .version(version)
    .addHelpText('after', `\n${o.exitCodes}`)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => print(text.trimEnd()),
      writeErr: (text) => printError(text.trimEnd()),
      outputError: (text) => printError(`${o.name}: ${usageLine(text)} [USAGE]`),
    })
    .hook('preSubcommand', refuseUnknownWord);
}

/** For a group with a default command, which would take the name of one that does not exist for an argument of its own. */
export function refuseUnknownWord(group: Command, command: Command): void {
  const [word] = group.args;
  if (word !== undefined && !word.startsWith('-') && word !== command.name()) unknownCommand(group, word);
}

/**
 * Runs the command that `argv` names (without the program). Throws CommanderError for a wrong command line, which is printed
 * then, CulvertError `USAGE` for a text that names nothing, and what the command throws.
 */
export async function runCommandLine(program: Command, argv: readonly string[]): Promise<void> {
  refuseUnusableTexts(program);
  refuseUnknownHelp(program, argv);
  await program.parseAsync([...argv], { from: 'user' });
}

/** Commander answers `help NOTHING` with the whole help. */
function refuseUnknownHelp(program: Command, argv: readonly string[]): void {
  const { operands } = program.parseOptions([...argv]);
  let command = program;
  let isHelp = false;
  for (const word of operands) {
    if (!isHelp && word === 'help' && command.commands.length > 0) {
      isHelp = true;
      continue;
    }
    const next = command.commands.find((candidate) => candidate.name() === word);
    if (next === undefined) {
      if (isHelp) unknownCommand(command, word);
      return;
    }
    command = next;
  }
}

function unknownCommand(parent: Command, word: string): never {
  const names = parent.commands.map((command) => command.name());
  const nearest = nearestName(word, names);
  const hint = nearest === undefined ? '' : `\n(Did you mean ${nearest}?)`;
  return parent.error(`error: unknown command '${word}'${hint}`, { code: 'commander.unknownCommand' });
}

/** Commander's `error: …`, with its suggestion in a line of its own, as the rest of a line of this program. */
function usageLine(text: string): string {
  const [problem = '', suggestion] = text
    .trim()
    .replace(/^error: /, '')
    .split(/\n(?=\(Did you mean )/);
  return `${shortened(problem)} ${suggestion === undefined ? '(see --help)' : suggestion.replace('(Did', '(did')}`;
}
