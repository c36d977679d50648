import { Command, CommanderError } from 'commander';
import { CulvertError, describeError } from '../../shared/errors.js';
import { version } from '../../shared/version.js';
import { addAllowCommand } from './allow-command.js';
import { addApplyCommand } from './apply-command.js';
import { Cli } from './cli.js';
import type { CliIo } from './cli-io.js';
import { addAuditCommand } from './audit-command.js';
import { addDiffCommand } from './diff-command.js';
import { addLearnCommand } from './learn-command.js';
import { addLintCommand } from './lint-command.js';
import { addMatrixCommand } from './matrix-command.js';
import { addPromoteCommand } from './promote-command.js';
import { addDeleteCommand } from './delete-command.js';
import { CliError, describeExitCodes, exitCodes } from './exit-codes.js';
import { addExportCommand } from './export-command.js';
import { addGetCommand } from './get-command.js';
import { addHistoryCommand } from './history-command.js';
import { addNodesCommand } from './nodes-command.js';
import { addRollbackCommand } from './rollback-command.js';
import { addRolloutCommand } from './rollout-command.js';
import { addStatusCommand } from './status-command.js';
import { addTestCommand } from './test-command.js';
import { addTokenCommand } from './token-command.js';
import { addWhyCommand } from './why-command.js';

/** Runs one command line (without the program's name) and returns its exit code. Never throws, never ends the process. */
export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  try {
    await createProgram(io).parseAsync([...argv], { from: 'user' });
    return exitCodes.ok.code;
  } catch (error) {
    // Commander has printed its own message; help and version are no errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok.code : exitCodes.usage.code;
    const code = error instanceof CulvertError ? ` [${error.code}]` : '';
    io.printError(`culvert: ${describeError(error)}${code}`);
    return exitCodes[error instanceof CliError ? error.exit : 'failed'].code;
  }
}

function createProgram(io: CliIo): Command {
  const program = new Command('culvert')
    .description('Defines the rules of a mesh, explains them and shows how the agents are.')
    .version(version)
    .option('--context <file>', 'file with the address, CA and token of the controller (environment: CULVERT_CONTEXT)')
    .addHelpText('after', `\nExit codes:\n${describeExitCodes()}`)
    .showHelpAfterError('(see --help)')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.print(text.trimEnd()),
      writeErr: (text) => io.printError(text.trimEnd()),
    });
  const cli = new Cli({ io, program });
  const commands = [
    addApplyCommand,
    addGetCommand,
    addDeleteCommand,
    addWhyCommand,
    addTestCommand,
    addDiffCommand,
    addAuditCommand,
    addPromoteCommand,
    addLearnCommand,
    addLintCommand,
    addMatrixCommand,
    addAllowCommand,
    addStatusCommand,
    addNodesCommand,
    addTokenCommand,
    addHistoryCommand,
    addRollbackCommand,
    addRolloutCommand,
    addExportCommand,
  ];
  for (const add of commands) add(program, cli);
  return program;
}
