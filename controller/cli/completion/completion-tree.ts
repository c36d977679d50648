import type { Command } from 'commander';
import { kindInfo, kindNames } from '../../resources/kinds/resource.js';

export type CompletionOption = {
  readonly long: string;
  /** Null: it has none. */
  readonly short: string | null;
  readonly text: string;
  readonly takesValue: boolean;
  /** Empty: any value. */
  readonly choices: readonly string[];
};

/** One command: what may follow it. */
export type CompletionCommand = {
  /** `culvert`, `culvert token create`. */
  readonly path: string;
  readonly text: string;
  readonly subcommands: readonly { readonly name: string; readonly text: string }[];
  readonly options: readonly CompletionOption[];
  /** Words for its first argument, such as kinds. */
  readonly words: readonly string[];
};

/** Every command of a program, the program first. */
export function completionTree(program: Command): CompletionCommand[] {
  return describe(program, program.name());
}

function describe(command: Command, path: string): CompletionCommand[] {
  const own: CompletionCommand = {
    path,
    text: sentence(command.description()),
    subcommands: command.commands.map((sub) => ({ name: sub.name(), text: sentence(sub.description()) })),
    options: command
      .createHelp()
      .visibleOptions(command)
      .map((option) => ({
        long: option.long ?? '',
        short: option.short ?? null,
        text: sentence(option.description),
        takesValue: option.required || option.optional,
        choices: option.argChoices ?? [],
      })),
    words: wordsOf(command),
  };
  return [own, ...command.commands.flatMap((sub) => describe(sub, `${path} ${sub.name()}`))];
}

function wordsOf(command: Command): readonly string[] {
  const [first] = command.registeredArguments;
  if (first === undefined) return [];
  if (first.argChoices !== undefined) return first.argChoices;
  if (!first.name().startsWith('kind')) return [];
  const kinds = kindNames.flatMap((kind) => [kind, ...kindInfo(kind).aliases]);
  return command.name() === 'get' ? ['all', ...kinds] : kinds;
}

/** The first one. */
function sentence(text: string): string {
  return text.split(/(?<=\.)\s/)[0] ?? text;
}
