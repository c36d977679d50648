#!/usr/bin/env node
import { failureLine } from '../shared/program/failure-line.js';
import { outputWritten, processOutput, watchOutput } from '../shared/program/output.js';
import { runCommandLine } from '../shared/program/program-command.js';
import { exitOf } from '../shared/program/usage-exit.js';
import { controllerCommandLine } from './command-line.js';

/** Starts `culvert-controller`. Only this file ends its process: 0 for success, 64 for a wrong command line, else 1. */
// Whatever this process or one that it starts creates is its owner's alone.
process.umask(0o077);
watchOutput({ program: 'culvert-controller', exit: (code) => process.exit(code) });
await runCommandLine(controllerCommandLine(finish, processOutput, cut), process.argv.slice(2)).catch(end);

/** Runs a command and ends the process. A failure prints one line with the problem, a hint and the code for programs. */
async function finish(task: () => Promise<void>): Promise<void> {
  try {
    await task();
    await outputWritten();
    process.exit(0);
  } catch (error) {
    await end(error);
  }
}

/** Ends the process at once: from now on another one may write what this one would. */
function cut(error: unknown): never {
  processOutput.printError(failureLine('culvert-controller', error));
  process.exit(exitOf(error).code);
}

async function end(error: unknown): Promise<never> {
  const { code, isPrinted } = exitOf(error);
  if (!isPrinted) processOutput.printError(failureLine('culvert-controller', error));
  await outputWritten();
  process.exit(code);
}
