import type { Argument, Command, Option } from 'commander';
import { exitCodes } from '../../controller/cli/exit-codes.js';
import { version } from '../../shared/version.js';
import { agentProgram, controllerProgram, culvertProgram } from './commands.js';

export type ManPage = { readonly file: string; readonly text: string };

/** A page for each program, made from its command line. Section 8 is for programs of the administrator. */
export async function manPages(): Promise<ManPage[]> {
  const codes = Object.values(exitCodes).map(({ code, text }) => ({ term: String(code), text }));
  const daemon = [
    { term: '0', text: 'done' },
    { term: '64', text: 'the command line or a file that it names is unusable' },
    { term: '1', text: 'any other failure' },
  ];
  return [
    page(await culvertProgram(), 1, codes),
    page(agentProgram(), 8, daemon),
    page(controllerProgram(), 8, daemon),
  ];
}

type Entry = { readonly term: string; readonly text: string };

function page(program: Command, section: number, exits: readonly Entry[]): ManPage {
  const name = program.name();
  const lines = [
    `.TH ${name.toUpperCase()} ${section} "" "culvert ${version}" "Culvert"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(lowerFirst(program.description().replace(/\.$/, '')))}`,
    '.SH SYNOPSIS',
    `.B ${escaped(name)}`,
    '[options] <command>',
    '.SH OPTIONS',
    ...optionLines(program.options),
    '.SH COMMANDS',
    ...program.commands.flatMap((command) => commandLines(command)),
    '.SH EXIT STATUS',
    ...exits.flatMap(({ term, text }) => tagged(`.B ${term}`, text)),
  ];
  return { file: `deploy/man/${name}.${section}`, text: `${lines.join('\n')}\n` };
}

function commandLines(command: Command): string[] {
  const title = `${pathOf(command)} ${command.usage()}`;
  const own = [
    `.SS ${escaped(title)}`,
    escaped(command.description()),
    ...command.registeredArguments.flatMap((argument) => argumentLines(argument)),
    ...optionLines(command.options),
  ];
  return [...own, ...command.commands.flatMap((sub) => commandLines(sub))];
}

function pathOf(command: Command): string {
  const { parent } = command;
  return parent === null || parent.parent === null ? command.name() : `${pathOf(parent)} ${command.name()}`;
}

function argumentLines(argument: Argument): string[] {
  const { argChoices } = argument;
  const choices = argChoices === undefined ? '' : ` (${argChoices.join(', ')})`;
  return tagged(`.I ${escaped(argument.name())}`, `${argument.description}${choices}`);
}

function optionLines(options: readonly Option[]): string[] {
  return options.flatMap((option) => {
    const { argChoices, defaultValue, defaultValueDescription } = option;
    const choices = argChoices === undefined ? '' : ` (${argChoices.join(', ')})`;
    const shown: unknown = defaultValueDescription ?? defaultValue;
    const fallback = typeof shown === 'string' || typeof shown === 'number' ? ` (default: ${shown})` : '';
    return tagged(`.B ${escaped(option.flags)}`, `${option.description}${choices}${fallback}`);
  });
}

function tagged(head: string, text: string): string[] {
  return ['.TP', head, escaped(text)];
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** groff reads a hyphen as a typographic one, and a point or an apostrophe at the start of a line as a request. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .split('\n')
    .map((line) => (/^[.']/.test(line) ? `\\&${line}` : line))
    .join('\n');
}
