import type { Command } from 'commander';
import { formatProblem, type Problem } from '../resources/kinds/problem.js';
import { ApiClient, RefusedError, type ApiRequest } from './client/api-client.js';
import type { CliIo } from './cli-io.js';
import { loadContext, type Context } from './client/context.js';

/** What every command uses: input and output, the context, the client, and how problems are printed. */
export class Cli {
  readonly io: CliIo;
  /** The program with all its commands, whichever of them runs. */
  readonly completeProgram: () => Promise<Command>;
  readonly #program: Command;

  constructor(init: {
    readonly io: CliIo;
    readonly program: Command;
    readonly completeProgram: () => Promise<Command>;
  }) {
    this.io = init.io;
    this.completeProgram = init.completeProgram;
    this.#program = init.program;
  }

  /** Reads the context file. Commands call it only when they need it, so help and usage errors work without one. */
  context(): Promise<Context> {
    const { context } = this.#program.opts<{ context?: string }>();
    return loadContext(context, this.io.env);
  }

  async client(): Promise<ApiClient> {
    return new ApiClient({ context: await this.context() });
  }

  /** Sends a change. When the controller refuses it, prints the problems (`locate` adds the file and line) and throws. */
  async change<Answer>(
    client: ApiClient,
    request: ApiRequest,
    locate: (problem: Problem) => Problem = (problem) => problem,
  ): Promise<Answer> {
    try {
      return await client.call<Answer>(request);
    } catch (error) {
      if (error instanceof RefusedError) this.printProblems(error.answer.problems.map(locate));
      throw error;
    }
  }

  printProblems(problems: readonly Problem[]): void {
    for (const problem of problems) this.io.printError(`${problem.severity}: ${formatProblem(problem)}`);
  }
}
