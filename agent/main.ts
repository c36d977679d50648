#!/usr/bin/env node
import { exitOf } from '../shared/config/usage-exit.js';
import { CulvertError, describeError } from '../shared/errors.js';
import { agentCommandLine } from './command-line.js';
import { exitAtOnce } from './native/addon.js';
import type { ExitStatus } from './run.js';

/** `culvert-agent`, and the only place that ends its process. Exit codes: 0 success, 64 wrong command line, 1 failure. */
await agentCommandLine(finish).parseAsync().catch(end);

/** Runs a command to its end. On failure it prints one line that says what went wrong and what to do. */
async function finish(run: () => Promise<ExitStatus>): Promise<void> {
  try {
    const status = await run();
    if (typeof status === 'number') process.exit(status);
    exitAtOnce(status.atOnce);
  } catch (error) {
    end(error);
  }
}

function end(error: unknown): never {
  const { code: exitCode, isPrinted } = exitOf(error);
  if (isPrinted) process.exit(exitCode);
  const code = error instanceof CulvertError ? ` [${error.code}]` : '';
  process.stderr.write(`culvert-agent: ${describeError(error)}${code}\n`);
  if (!(error instanceof CulvertError) && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
  process.exit(exitCode);
}
