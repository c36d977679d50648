import type { Command } from 'commander';
import { formatProblem, type Problem } from '../resources/kinds/problem.js';
import { ApiClient } from './client/api-client.js';
import type { CliIo } from './cli-io.js';
import { loadContext, type Context } from './client/context.js';

/** What every command works with. */
export class Cli {
  readonly io: CliIo;
  readonly #program: Command;

  constructor(init: { readonly io: CliIo; readonly program: Command }) {
    this.io = init.io;
    this.#program = init.program;
  }

  /** Read when a command needs it, so that help and typing mistakes need none. */
  context(): Promise<Context> {
    const { context } = this.#program.opts<{ context?: string }>();
    return loadContext(context, this.io.env);
  }

  async client(): Promise<ApiClient> {
    return new ApiClient({ context: await this.context() });
  }

  printProblems(problems: readonly Problem[]): void {
    for (const problem of problems) this.io.printError(`${problem.severity}: ${formatProblem(problem)}`);
  }
}
