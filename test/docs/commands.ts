import type { Command, Option } from 'commander';
import { agentCommandLine } from '../../agent/command-line.js';
import { agentSettingsTable } from '../../agent/config/agent-settings.js';
import { exitCodes } from '../../controller/cli/exit-codes.js';
import { completeProgram } from '../../controller/cli/program.js';
import { controllerCommandLine } from '../../controller/command-line.js';
import { controllerSettings } from '../../controller/config/settings.js';
import type { SettingsTable } from '../../shared/config/settings-table.js';
import type { ProgramOutput } from '../../shared/program/program-command.js';
import { markdownTable } from './markdown-table.js';

const noOutput: ProgramOutput = { print: () => undefined, printError: () => undefined };

/** Every command of `culvert`, as commander knows it. */
export async function renderCulvertCommands(): Promise<string> {
  return renderCommands(await culvertProgram(), {});
}

export function culvertProgram(): Promise<Command> {
  return completeProgram({
    ...noOutput,
    readStdin: () => Promise.reject(new Error('the documents run no command')),
    env: {},
    nowMs: () => 0,
  });
}

export function renderAgentCommands(): string {
  return renderCommands(agentProgram(), agentSettingsTable);
}

export function renderControllerCommands(): string {
  return renderCommands(controllerProgram(), controllerSettings);
}

export function agentProgram(): Command {
  return agentCommandLine(() => Promise.resolve(), noOutput);
}

export function controllerProgram(): Command {
  return controllerCommandLine(() => Promise.resolve(), noOutput);
}

export function renderExitCodes(): string {
  return markdownTable(
    ['exit code', 'what it means'],
    Object.values(exitCodes).map(({ code, text }) => [String(code), text]),
  );
}

/** Settings of a program are options of most of its commands; they are named together, with a link to their table. */
function renderCommands(program: Command, settings: SettingsTable): string {
  return withSubcommands(program)
    .map((command) => renderCommand(command, settings))
    .join('\n\n');
}

function withSubcommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withSubcommands)];
}

function renderCommand(command: Command, settings: SettingsTable): string {
  const flags = new Set(Object.values(settings).map(({ flag }) => flag as string));
  const isSetting = (option: Option): boolean => option.long !== undefined && flags.has(option.long ?? '');
  const own = command.options.filter((option) => !isSetting(option));
  const settingsLine = command.options.some(isSetting)
    ? 'Takes every [setting](settings.md) of the program as an option.'
    : '';
  const rows = [
    ...command.registeredArguments.map((argument) => {
      const dots = argument.variadic ? '...' : '';
      const shown = argument.required ? `<${argument.name()}${dots}>` : `[${argument.name()}${dots}]`;
      return [
        `\`${shown}\``,
        argument.description,
        choicesText(argument.argChoices, argument.defaultValueDescription ?? argument.defaultValue),
      ];
    }),
    ...own.map((option) => [
      `\`${option.flags}\`${option.mandatory ? ' (required)' : ''}`,
      option.description,
      choicesText(option.argChoices, option.defaultValueDescription ?? option.defaultValue),
    ]),
  ];
  const table = rows.length === 0 ? '' : markdownTable(['argument or option', 'meaning', 'values'], rows);
  const parts = [
    `### ${pathOf(command)}`,
    command.description(),
    command.commands.length > 0 ? '' : `\`\`\`text\n${pathOf(command)} ${command.usage()}\n\`\`\``,
    table,
    settingsLine,
    command.parent === null ? '' : notesOf(command),
  ];
  return parts.filter((part) => part !== '').join('\n\n');
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

function choicesText(choices: readonly string[] | undefined, fallback: unknown): string {
  const listed = choices === undefined ? [] : [choices.map((choice) => `\`${choice}\``).join(', ')];
  const isShown = typeof fallback === 'string' || typeof fallback === 'number';
  return [...listed, ...(isShown ? [`default \`${fallback}\``] : [])].join('; ');
}

/** What a command's help has after its options: examples, and exit codes of its own. */
function notesOf(command: Command): string {
  const { help, after } = helpOf(command);
  if (!help.startsWith(after)) return help.trim();
  return help
    .slice(after.length)
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => line.replace(/^Example: (.*)$/, 'Example: `$1`'))
    .join('\n\n');
}

function helpOf(command: Command): { readonly help: string; readonly after: string } {
  const after = command.helpInformation();
  let help = '';
  command.configureOutput({ writeOut: (text) => (help += text) });
  command.outputHelp();
  return { help, after };
}
