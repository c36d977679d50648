import { CulvertError } from '../../../shared/errors.js';
import type { CommandOptions, CommandResult } from '../../lab/command.js';
import { patience } from '../../lab/patience.js';

/** Runs `kubectl` with these arguments, whatever its exit code. */
type RunKubectl = (args: readonly string[], options?: CommandOptions) => Promise<CommandResult>;

/** `kubectl` with the administrator's credentials of one cluster. */
export class Kubectl {
  readonly #run: RunKubectl;

  constructor(run: RunKubectl) {
    this.#run = run;
  }

  /** Runs it to its end, whatever its exit code. */
  run(args: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return this.#run(args, options);
  }

  /** Returns what it printed. Throws `KUBECTL` with what it said, unless it ended with 0. */
  async succeed(args: readonly string[], options?: CommandOptions): Promise<string> {
    const { code, stdout, stderr } = await this.#run(args, options);
    if (code === 0) return stdout;
    const said = `${stderr}${stdout}`.trim();
    throw new CulvertError({ code: 'KUBECTL', message: `"kubectl ${args.join(' ')}" ended with ${code}: ${said}` });
  }

  /** What `-o json` prints. */
  async json(args: readonly string[]): Promise<unknown> {
    return JSON.parse(await this.succeed([...args, '-o', 'json']));
  }

  /** Creates or changes what documents (YAML, several) describe. */
  async apply(documents: string): Promise<void> {
    await this.succeed(['apply', '-f', '-'], { input: documents });
  }

  /** Waits for what `kubectl wait` or `kubectl rollout status` waits for, longer on a busy machine. */
  async wait(args: readonly string[], deadlineMs = 120_000): Promise<void> {
    const timeout = `--timeout=${Math.ceil((deadlineMs * patience()) / 1000)}s`;
    // It ends by itself, and then says why.
    await this.succeed([...args, timeout], { timeoutMs: deadlineMs + 30_000 });
  }

  /** Runs a program in a pod to its end, whatever its exit code. `pod`: `NAMESPACE/NAME`, or `NAMESPACE/KIND/NAME`. */
  exec(pod: string, argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    const [namespace = '', ...name] = pod.split('/');
    const input = options?.input === undefined ? [] : ['-i'];
    return this.#run(['-n', namespace, 'exec', ...input, name.join('/'), '--', ...argv], options);
  }
}
