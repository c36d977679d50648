import type { Command } from 'commander';
import { failureLine } from '../../shared/program/failure-line.js';
import { programCommand, runCommandLine } from '../../shared/program/program-command.js';
import { exitOf } from '../../shared/program/usage-exit.js';
import { Cli } from './cli.js';
import type { CliIo } from './cli-io.js';
import { CliError, describeExitCodes, exitCodes } from './exit-codes.js';

/** Runs one command line (without the program's name) and returns its exit code. Never throws or ends the process. */
export async function runCli(argv: readonly string[], io: CliIo): Promise<number> {
  try {
    await runCommandLine(await createProgram(commandsFor(argv), io), argv);
    return exitCodes.ok.code;
  } catch (error) {
    const { code, isPrinted } = exitOf(error);
    if (!isPrinted) io.printError(failureLine('culvert', error));
    return error instanceof CliError ? exitCodes[error.exit].code : code;
  }
}

/** The whole command line of `culvert`, for the documents. */
export function completeProgram(io: CliIo): Promise<Command> {
  return createProgram(Object.values(commands), io);
}

async function createProgram(loads: readonly (() => Promise<AddCommand>)[], io: CliIo): Promise<Command> {
  const program = programCommand({
    name: 'culvert',
    description: 'Manages and explains the rules of a mesh and shows the state of its agents.',
    exitCodes: `Exit codes:\n${describeExitCodes()}`,
    output: io,
  }).option('--context <file>', 'file with the address, CA and token of the controller (environment: CULVERT_CONTEXT)');
  const cli = new Cli({ io, program, completeProgram: () => completeProgram(io) });
  for (const load of loads) (await load())(program, cli);
  return program;
}

type AddCommand = (program: Command, cli: Cli) => void;

/** All commands, in the order of the help. */
const commands: Readonly<Record<string, () => Promise<AddCommand>>> = {
  apply: async () => (await import('./commands/apply-command.js')).addApplyCommand,
  get: async () => (await import('./commands/get-command.js')).addGetCommand,
  delete: async () => (await import('./commands/delete-command.js')).addDeleteCommand,
  why: async () => (await import('./commands/why-command.js')).addWhyCommand,
  routes: async () => (await import('./commands/routes-command.js')).addRoutesCommand,
  endpoints: async () => (await import('./commands/endpoints-command.js')).addEndpointsCommand,
  test: async () => (await import('./commands/test-command.js')).addTestCommand,
  diff: async () => (await import('./commands/diff-command.js')).addDiffCommand,
  'audit-log': async () => (await import('./commands/audit-log-command.js')).addAuditLogCommand,
  audit: async () => (await import('./commands/audit-command.js')).addAuditCommand,
  promote: async () => (await import('./commands/promote-command.js')).addPromoteCommand,
  learn: async () => (await import('./commands/learn-command.js')).addLearnCommand,
  lint: async () => (await import('./commands/lint-command.js')).addLintCommand,
  matrix: async () => (await import('./commands/matrix-command.js')).addMatrixCommand,
  allow: async () => (await import('./commands/allow-command.js')).addAllowCommand,
  status: async () => (await import('./commands/status-command.js')).addStatusCommand,
  version: async () => (await import('./commands/version-command.js')).addVersionCommand,
  check: async () => (await import('./commands/check-command.js')).addCheckCommand,
  nodes: async () => (await import('./commands/nodes-command.js')).addNodesCommand,
  node: async () => (await import('./commands/node-command.js')).addNodeCommand,
  ca: async () => (await import('./commands/ca-command.js')).addCaCommand,
  token: async () => (await import('./commands/token-command.js')).addTokenCommand,
  user: async () => (await import('./commands/user-command.js')).addUserCommand,
  context: async () => (await import('./commands/context-command.js')).addContextCommand,
  history: async () => (await import('./commands/history-command.js')).addHistoryCommand,
  rollback: async () => (await import('./commands/rollback-command.js')).addRollbackCommand,
  advance: async () => (await import('./commands/advance-command.js')).addAdvanceCommand,
  rollout: async () => (await import('./commands/rollout-command.js')).addRolloutCommand,
  export: async () => (await import('./commands/export-command.js')).addExportCommand,
  explain: async () => (await import('./commands/explain-command.js')).addExplainCommand,
  install: async () => (await import('./commands/install-command.js')).addInstallCommand,
  uninstall: async () => (await import('./commands/uninstall-command.js')).addUninstallCommand,
  completion: async () => (await import('./commands/completion-command.js')).addCompletionCommand,
};

/** Loads only the command that runs, which takes a fraction of the time. Help and unknown commands need all of them. */
function commandsFor([first, , third]: readonly string[]): (() => Promise<AddCommand>)[] {
  const name = first === '--context' ? third : first;
  if (name === undefined || !Object.hasOwn(commands, name)) return Object.values(commands);
  return [commands[name]].filter((load) => load !== undefined);
}
