import { Command } from 'commander';
import { describeError } from '../../shared/errors.js';
import { DeclaredPath } from '../../test/lab/declared-path.js';
import { play, playInNode } from './play.js';
import { runDemo } from './run-demo.js';

const command = new Command('demo')
  .description('Builds a lab of two hosts and six workloads, runs the mesh on it and demonstrates it step by step.')
  .option('--hold', 'keep the lab running afterwards and print commands to try; Ctrl-C ends it')
  .option('--json', 'write one JSON object {ok, steps, metrics} as the last line of stdout; progress goes to stderr')
  .enablePositionalOptions()
  .action(async (options: { hold?: true; json?: true }) => {
    using _ = DeclaredPath.enter('demo');
    const isOk = await runDemo({ isHeld: options.hold === true, isJson: options.json === true });
    process.exitCode = isOk ? 0 : 1;
  });

command
  .command('shell <node> [command...]')
  .description('a shell, or one command, in a host or workload of the demo that another terminal holds')
  .passThroughOptions()
  .action(async (node: string, words: string[]) => {
    process.exitCode = await playInNode(node, words);
  });

command
  .command('culvert [arguments...]')
  .description('the culvert command, as the administrator of that demo')
  .passThroughOptions()
  .action(async (words: string[]) => {
    process.exitCode = await play(['culvert', ...words]);
  });

command
  .command('log <node>')
  .description('the log of an agent of that demo, as it grows')
  .action(async (node: string) => {
    process.exitCode = await play(['log', node]);
  });

try {
  await command.parseAsync();
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}
