#!/usr/bin/env node
import { CulvertError, describeError } from '../shared/errors.js';
import { controllerCommandLine } from './command-line.js';

/** `culvert-controller`, and the only place that ends its process: exit code 0 done, 1 failed. */
await controllerCommandLine(finish).parseAsync();

/** Runs a command to its end. One line for what went wrong and what to do; the code tells programs. */
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
