import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Command } from 'commander';
import { agentCommandLine } from '../../../../agent/command-line.js';
import { controllerCommandLine } from '../../../../controller/command-line.js';
import { runCommandLine, type ProgramOutput } from '../../../../shared/program/program-command.js';
import { failureLine } from '../../../../shared/program/failure-line.js';
import { exitOf } from '../../../../shared/program/usage-exit.js';
import { agentProgram, controllerProgram, culvertProgram } from '../../../docs/commands.js';
import { culvert, type CliRun } from '../../../support/controller/cli-fixture.js';
import { wrongCommandLines } from '../../../support/program/command-cases.js';

/** Runs a command line of a daemon up to where a command would begin. */
async function parsed(
  name: string,
  make: (output: ProgramOutput, onRun: () => void) => Command,
  argv: readonly string[],
): Promise<CliRun> {
  const out: string[] = [];
  const err: string[] = [];
  const output = { print: (text: string) => void out.push(text), printError: (text: string) => void err.push(text) };
  let isRun = false;
  const program = make(output, () => (isRun = true));
  const code = await runCommandLine(program, argv).then(
    () => (isRun ? 0 : -1),
    (error: unknown) => {
      const exit = exitOf(error);
      if (!exit.isPrinted) err.push(failureLine(name, error));
      return exit.code;
    },
  );
  return { code, out: out.join('\n'), err: err.join('\n') };
}

const run: Readonly<Record<string, (argv: readonly string[]) => Promise<CliRun>>> = {
  culvert: (argv) => culvert(argv, { env: { CULVERT_CONTEXT: '/nowhere/context.yaml' } }),
  'culvert-agent': (argv) =>
    parsed('culvert-agent', (output, onRun) => agentCommandLine(async () => onRun(), output), argv),
  'culvert-controller': (argv) =>
    parsed('culvert-controller', (output, onRun) => controllerCommandLine(async () => onRun(), output), argv),
};

const programs: Readonly<Record<string, { readonly program: Command; readonly atLeast: number }>> = {
  culvert: { program: await culvertProgram(), atLeast: 300 },
  'culvert-agent': { program: agentProgram(), atLeast: 300 },
  'culvert-controller': { program: controllerProgram(), atLeast: 300 },
};

for (const [name, { program, atLeast }] of Object.entries(programs)) {
  describe(`the command line of ${name}`, () => {
    const cases = wrongCommandLines(program);

    test('answers whatever is wrong with it with 64 and one line that says what', async () => {
      assert.ok(cases.length > atLeast, `${cases.length} cases`);
      const unlike: string[] = [];
      for (const { argv, error } of cases) {
        const { code, out, err } = await run[name]!(argv);
        const isOneLine = err.length < 1500 && !err.includes('\n') && err.startsWith(`${name}: `);
        if (code === 64 && out === '' && error.test(err) && isOneLine) continue;
        const words = argv.map((word) => JSON.stringify(word.slice(0, 40))).join(' ');
        unlike.push(`${name} ${words} must say ${error}, ended with ${code} and said: ${out}${err.slice(0, 300)}`);
      }
      assert.deepEqual(unlike, []);
    });

    test('answers a word that is nearly a command with the command', async () => {
      const [first] = program.commands;
      const word = `${first?.name() ?? ''}x`;
      const { err } = await run[name]!([word]);
      assert.equal(err, `${name}: unknown command '${word}' (did you mean ${first?.name()}?) [USAGE]`);
    });
  });
}

test('a daemon without a command runs, and its options need none', async () => {
  for (const argv of [[], ['--log-level', 'debug'], ['run'], ['config', '--print']]) {
    for (const name of ['culvert-agent', 'culvert-controller']) {
      assert.deepEqual(await run[name]!(argv), { code: 0, out: '', err: '' }, argv.join(' '));
    }
  }
});

test('several texts of one option are kept, whether they come together or one by one', async () => {
  const told: string[][] = [];
  for (const argv of [
    ['rules', '--netns', 'a', 'b'],
    ['rules', '--netns', 'a', '--netns', 'b'],
  ]) {
    const program = agentCommandLine(() => Promise.resolve(), { print: () => undefined, printError: () => undefined });
    await runCommandLine(program, argv);
    told.push(program.commands.find((command) => command.name() === 'rules')?.opts()['netns'] as string[]);
  }
  assert.deepEqual(told, [
    ['a', 'b'],
    ['a', 'b'],
  ]);
});

test('the agent judges the node that its settings name, and says which namespace is not there', async () => {
  const [out, err]: [string[], string[]] = [[], []];
  const output = { print: (text: string) => void out.push(text), printError: (text: string) => void err.push(text) };
  const agent = (...argv: readonly string[]) =>
    runCommandLine(
      agentCommandLine(async (work) => void (await work()), output),
      argv,
    );
  await assert.rejects(agent('config', '--node', 'BAD X', '--health-address', '99', '--log-level', 'loud'), {
    code: 'CONFIG_INVALID',
    message:
      'the configuration has 3 problems:\n' +
      '  --node: "BAD X" must be a name of lower-case letters, digits, "-" and ".", such as host-a\n' +
      '  --health-address: "99" must be an address with a port to listen on, such as [::]:15021\n' +
      '  --log-level: "loud" must be one of error, warn, info, debug, trace, such as debug',
  });
  await assert.rejects(agent('config', '--print', '--node', 'BAD X'), {
    code: 'CONFIG_INVALID',
    message: /--node: "BAD X" must be a name of/,
  });
  await agent('config', '--print', '--node', 'host-a');
  assert.match(out.join('\n'), /^node: host-a # /m);
  assert.deepEqual(err, []);
  await agent('config', '--print', '--fail-mode', 'open');
  assert.match(err.splice(0).join(), /^note: failMode: open has no effect without "culvert-agent supervise"/);
  await agent('rules', '--netns', 'culvert-no-such-namespace');
  assert.deepEqual(err, ['note: there is no namespace /run/netns/culvert-no-such-namespace']);
});
