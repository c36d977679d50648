import type { Command } from 'commander';
import { formatProblem, type Problem } from '../resources/kinds/problem.js';
import { ApiClient, RefusedError, type ApiRequest } from './client/api-client.js';
import type { CliIo } from './cli-io.js';
import { countText } from './view/amounts.js';
import { loadContext, type LoadedContext } from './client/context.js';

/** What every command uses: input and output, the context, the client, and how problems are printed. */
export class Cli {
  readonly io: CliIo;
  /** The program with all its commands, whichever of them runs. */
  readonly completeProgram: () => Promise<Command>;
  readonly #program: Command;
  #isNextRootNoted = false;
  #context: Promise<LoadedContext> | null = null;

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
  context(): Promise<LoadedContext> {
    const { context } = this.#program.opts<{ context?: string }>();
    return (this.#context ??= loadContext(context, this.io.env, this.io.printError));
  }

  async client(): Promise<ApiClient> {
    const context = await this.context();
    return new ApiClient({ context, onNextRoot: (hash) => this.#noteNextRoot(context, hash) });
  }

  async #noteNextRoot({ caPem, path }: LoadedContext, hash: string): Promise<void> {
    if (this.#isNextRootNoted) return;
    this.#isNextRootNoted = true;
    const { rootHashes } = await import('../../shared/pki/root-hash.js');
    if (rootHashes(caPem).includes(hash)) return;
    this.io.printError(
      `warning: the mesh gets a new root CA, which ${path} does not trust yet: run culvert context refresh, or it will be refused soon`,
    );
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

  /** Prints what a change may have to do with, and counts the warnings that were there before about other documents. */
  printWarnings(warnings: readonly Problem[]): void {
    this.printProblems(warnings.filter(({ isEarlier }) => isEarlier !== true));
    const earlier = warnings.filter(({ isEarlier }) => isEarlier === true).length;
    if (earlier > 0) this.io.printError(`${countText(earlier, 'warning')} about other documents: culvert check`);
  }

  printProblems(problems: readonly Problem[]): void {
    for (const problem of problems) this.io.printError(`${problem.severity}: ${formatProblem(problem)}`);
  }
}
