#!/usr/bin/env node
import { exitOf } from '../shared/config/usage-exit.js';
import { CulvertError, describeError } from '../shared/errors.js';
import { controllerCommandLine } from './command-line.js';

/** Starts `culvert-controller`. Only this file ends its process: 0 for success, 64 for a wrong command line, else 1. */
await controllerCommandLine(finish).parseAsync().catch(end);

/** Runs a command and ends the process. A failure prints one line with the problem, a hint and the code for programs. */
async function finish(task: () => Promise<void>): Promise<void> {
  try {
    await task();
    process.exit(0);
  } catch (error) {
    end(error);
  }
}

function end(error: unknown): never {
  const { code: exitCode, isPrinted } = exitOf(error);
  const code = error instanceof CulvertError ? ` [${error.code}]` : '';
  if (!isPrinted) process.stderr.write(`culvert-controller: ${describeError(error)}${code}\n`);
  process.exit(exitCode);
}
