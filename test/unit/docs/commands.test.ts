import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Command } from 'commander';
import { allDocuments } from '../../docs/all-documents.js';
import { agentProgram, controllerProgram, culvertProgram } from '../../docs/commands.js';
import { inlineCommands, shownCommands } from '../../support/docs/shown-commands.js';

const programs: Readonly<Record<string, Command>> = {
  culvert: await culvertProgram(),
  'culvert-agent': agentProgram(),
  'culvert-controller': controllerProgram(),
};
const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { readonly scripts: Record<string, string> };

test('every command in the documents exists, with its options', () => {
  const commands = allDocuments().flatMap(({ file, text }) =>
    [...shownCommands(text), ...inlineCommands(text)].map((command) => ({ file, command })),
  );
  assert.ok(commands.length > 60, `${commands.length} commands`);
  const wrong = commands.flatMap(({ file, command }) => {
    const problem = problemOf(command);
    return problem === null ? [] : [`${file}: ${command}: ${problem}`];
  });
  assert.deepEqual(wrong, []);
});

test('a command, option or script that does not exist is found', () => {
  assert.equal(problemOf('culvert aply -f rules/'), 'culvert has no command "aply"');
  assert.equal(problemOf('culvert apply --files rules/'), 'there is no option --files');
  assert.equal(problemOf('culvert && culvert rollout state'), 'culvert rollout has no command "state"');
  assert.equal(problemOf('npm run lap -- up'), 'package.json has no script "lap"');
  assert.equal(problemOf('culvert-agent run --node a'), null);
});

/** Of the first part that is wrong; null when all is well, or the command is not ours. */
function problemOf(line: string): string | null {
  for (const part of line.split(/ (?:&&|\|\|?|>) /)) {
    const [name = '', ...words] = part.trim().split(/ +/);
    const program = programs[name];
    const problem = program === undefined ? scriptProblem(name, words) : commandProblem(program, words);
    if (problem !== null) return problem;
  }
  return null;
}

function scriptProblem(name: string, [verb, script = '']: readonly string[]): string | null {
  if (name !== 'npm' || verb !== 'run') return null;
  return Object.hasOwn(scripts, script) ? null : `package.json has no script "${script}"`;
}

function commandProblem(program: Command, words: readonly string[]): string | null {
  let command = program;
  let rest = words;
  while (command.commands.length > 0 && rest[0] !== undefined && /^[a-z]/.test(rest[0])) {
    const next = command.commands.find((candidate) => candidate.name() === rest[0]);
    if (next === undefined)
      return `${command.name() === program.name() ? '' : `${program.name()} `}${command.name()} has no command "${rest[0]}"`;
    command = next;
    rest = rest.slice(1);
  }
  const known = ['--help', ...[...command.options, ...program.options].flatMap(({ long }) => long ?? [])];
  // What follows "--" belongs to another command.
  const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  const unknown = own
    .map((word) => word.split('=')[0] ?? '')
    .find((word) => /^--\w/.test(word) && !known.includes(word));
  return unknown === undefined ? null : `there is no option ${unknown}`;
}
