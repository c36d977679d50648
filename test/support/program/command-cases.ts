import type { Argument, Command, Option } from 'commander';

/** A wrong command line, and what the program must say of it. */
export type WrongCommandLine = { readonly argv: readonly string[]; readonly error: RegExp };

const longText = 'a'.repeat(100_000);

/** For every command, option and argument of a program: each way to get it wrong that needs nothing but the command line. */
export function wrongCommandLines(program: Command): WrongCommandLine[] {
  return [...ofGroup(program, []), ...program.options.flatMap((option) => textCases(option, [], program))];
}

function ofGroup(group: Command, path: readonly string[]): WrongCommandLine[] {
  const unknown = /unknown command 'nothing'/;
  return [
    { argv: [...path, 'nothing'], error: unknown },
    { argv: [...path, 'help', 'nothing'], error: unknown },
    ...group.commands.flatMap((command) => {
      const own = [...path, command.name()];
      return command.commands.length > 0 ? ofGroup(command, own) : ofCommand(command, own);
    }),
  ];
}

function ofCommand(command: Command, path: readonly string[]): WrongCommandLine[] {
  const given = command.registeredArguments.filter(({ required }) => required);
  const words = [...path, ...given.map(goodText), ...neededOptions(command)];
  const last = command.registeredArguments.at(-1);
  const takesUnknown = last?.variadic === true && command.name() === 'supervise';
  return [
    ...command.registeredArguments.flatMap((argument, index) =>
      unusable(argument.name()).map(({ text, error }) => {
        const before = command.registeredArguments.slice(0, index).map(goodText);
        const after = given.slice(index + 1).map(goodText);
        return { argv: [...path, ...before, text, ...after, ...neededOptions(command)], error };
      }),
    ),
    ...command.options.flatMap((option) => textCases(option, words, command)),
    ...given.map((argument, index) => ({
      argv: [...path, ...given.slice(0, index).map(goodText), ...neededOptions(command)],
      error: new RegExp(`missing required argument '${escaped(argument.name())}'`),
    })),
    ...command.options
      .filter(({ mandatory }) => mandatory)
      .map((option) => ({
        argv: [...path, ...given.map(goodText), ...neededOptions(command, option)],
        error: new RegExp(`required option '${escaped(option.flags)}' not specified`),
      })),
    ...(takesUnknown ? [] : [{ argv: [...words, '--nonsense'], error: /unknown option '--nonsense'/ }]),
    ...(last?.variadic === true
      ? []
      : [
          {
            argv: [...path, ...command.registeredArguments.map(goodText), 'more', ...neededOptions(command)],
            error: /too many arguments/,
          },
        ]),
  ];
}

/** Each unusable text for an option, and no text at all. */
function textCases(option: Option, words: readonly string[], command: Command): WrongCommandLine[] {
  if (!option.required && !option.optional) return [];
  const flag = option.long ?? option.flags;
  const rest = words.filter((_, index) => words[index] !== flag && words[index - 1] !== flag);
  const cases = unusable(option.flags).map(({ text, error }) => ({ argv: [...rest, `${flag}=${text}`], error }));
  if (command.parent === null || option.optional) return cases;
  return [...cases, { argv: [...rest, flag], error: /argument missing/ }];
}

function unusable(name: string): { readonly text: string; readonly error: RegExp }[] {
  const start = escaped(name);
  return [
    { text: '', error: new RegExp(`${start} is empty`) },
    { text: ' ', error: new RegExp(`${start} is empty`) },
    { text: '\uFFFD', error: new RegExp(`${start} is not UTF-8 text`) },
    { text: longText, error: new RegExp(`${start} is longer than 4096 bytes`) },
  ];
}

function neededOptions(command: Command, without?: Option): string[] {
  return command.options
    .filter((option) => option.mandatory && option !== without)
    .flatMap((option) => [option.long ?? option.flags, goodText(option)]);
}

/** A text that the parser of an option or argument takes. */
function goodText(target: Option | Argument): string {
  const { argChoices: [choice] = [] } = target;
  if (choice !== undefined) return choice;
  const good = ['x', '5', '30s'].find((text) => {
    try {
      target.parseArg?.(text, undefined);
      return true;
    } catch {
      return false;
    }
  });
  if (good === undefined) throw new Error('no text fits');
  return good;
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
