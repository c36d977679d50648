#!/usr/bin/env node
import { failureLine } from '../shared/program/failure-line.js';
import { outputWritten, processOutput, watchOutput } from '../shared/program/output.js';
import { runCommandLine } from '../shared/program/program-command.js';
import { exitOf } from '../shared/program/usage-exit.js';
import { CulvertError } from '../shared/errors.js';
import { agentCommandLine } from './command-line.js';
import { exitAtOnce } from './native/addon.js';
import type { ExitStatus } from './run.js';

/** `culvert-agent`, and the only place that ends its process. Exit codes: 0 success, 64 wrong command line, 1 failure. */
// Whatever this process or one that it starts creates is its owner's alone.
process.umask(0o077);
watchOutput({ program: 'culvert-agent', exit: (code) => process.exit(code) });
await runCommandLine(agentCommandLine(finish, processOutput), process.argv.slice(2)).catch(end);

/** Runs a command to its end. On failure it prints one line that says what went wrong and what to do. */
async function finish(run: () => Promise<ExitStatus>): Promise<void> {
  try {
    const status = await run();
    await outputWritten();
    if (typeof status === 'number') process.exit(status);
    exitAtOnce(status.atOnce);
  } catch (error) {
    await end(error);
  }
}

async function end(error: unknown): Promise<never> {
  const { code, isPrinted } = exitOf(error);
  if (!isPrinted) processOutput.printError(failureLine('culvert-agent', error));
  // Only of what is no error of the system but of this program.
  const isOwn = !isPrinted && error instanceof Error && !(error instanceof CulvertError) && !('code' in error);
  if (isOwn) processOutput.printError(error.stack ?? '');
  await outputWritten();
  process.exit(code);
}
