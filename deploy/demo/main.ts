import { Command } from 'commander';
import { describeError } from '../../shared/errors.js';
import { runDemo } from './run-demo.js';

const command = new Command('demo')
  .description('Builds a lab of two hosts and six workloads, runs the mesh on it and demonstrates it step by step.')
  .option('--hold', 'keep the lab running afterwards and print commands to try; Ctrl-C ends it')
  .option('--json', 'write one JSON object {ok, steps, metrics} as the last line of stdout; progress goes to stderr')
  .parse();
const options = command.opts<{ hold?: true; json?: true }>();

try {
  const isOk = await runDemo({ isHeld: options.hold === true, isJson: options.json === true });
  process.exitCode = isOk ? 0 : 1;
} catch (error) {
  process.stderr.write(`${describeError(error)}\n`);
  process.exitCode = 1;
}
