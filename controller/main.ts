#!/usr/bin/env node
import { CulvertError, describeError } from '../shared/errors.js';
import { controllerCommandLine } from './command-line.js';

/** Starts `culvert-controller`. Only this file ends its process: exit code 0 for success, 1 for failure. */
await controllerCommandLine(finish).parseAsync();

/** Runs a command and ends the process. A failure prints one line with the problem, a hint and the code for programs. */
async function finish(task: () => Promise<void>): Promise<void> {
  try {
    await task();
    process.exit(0);
  } catch (error) {
    const code = error instanceof CulvertError ? ` [${error.code}]` : '';
    process.stderr.write(`culvert-controller: ${describeError(error)}${code}\n`);
    process.exit(1);
  }
}
