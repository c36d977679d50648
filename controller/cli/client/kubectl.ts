import { spawn } from 'node:child_process';
import { CliError } from '../exit-codes.js';

/** Much more than an object, or a list of some, has. */
const maxOutputBytes = 64 * 1024 * 1024;

export type KubectlResult = { readonly code: number; readonly out: string; readonly err: string };

/** The user's kubectl, with the user's access to a cluster. Errors: `KUBECTL`. */
export class Kubectl {
  readonly #program: string;
  readonly #options: readonly string[];
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(init: {
    readonly program: string;
    /** Before every command, such as `--context=NAME`. */
    readonly options: readonly string[];
    readonly env: Readonly<Record<string, string | undefined>>;
  }) {
    this.#program = init.program;
    this.#options = init.options;
    this.#env = init.env;
  }

  /** Runs it to its end, whatever its exit code. */
  run(args: readonly string[], input = ''): Promise<KubectlResult> {
    return new Promise((resolve, reject) => {
      const child = spawn(this.#program, [...this.#options, ...args], { env: { ...this.#env }, stdio: 'pipe' });
      const parts = { out: [] as Buffer[], err: [] as Buffer[] };
      let bytes = 0;
      const take =
        (to: Buffer[]) =>
        (part: Buffer): void => {
          bytes += part.length;
          if (bytes > maxOutputBytes) child.kill();
          else to.push(part);
        };
      child.stdout.on('data', take(parts.out));
      child.stderr.on('data', take(parts.err));
      child.stdin.on('error', () => undefined);
      child.stdin.end(input);
      child.once('error', (cause) => reject(this.#missing(cause)));
      child.once('close', (code) => {
        const text = (of: readonly Buffer[]): string => Buffer.concat(of).toString('utf8').trim();
        resolve({ code: code ?? 1, out: text(parts.out), err: text(parts.err) });
      });
    });
  }

  async succeed(args: readonly string[], input?: string): Promise<string> {
    const { code, out, err } = await this.run(args, input);
    if (code === 0) return out;
    throw new CliError({
      exit: 'failed',
      code: 'KUBECTL',
      message: `kubectl ${args.join(' ')}: ${err === '' ? `it ended with ${code}` : err}`,
      hint: 'correct that and run the command again: it goes on with what is left',
    });
  }

  /** The items of a list. */
  async items(args: readonly string[]): Promise<readonly ClusterObject[]> {
    const { items } = JSON.parse(await this.succeed(['get', ...args, '-o', 'json'])) as { items: ClusterObject[] };
    return items;
  }

  /** One object; null: there is none. */
  async find(args: readonly string[]): Promise<ClusterObject | null> {
    const text = await this.succeed(['get', ...args, '-o', 'json', '--ignore-not-found']);
    return text === '' ? null : (JSON.parse(text) as ClusterObject);
  }

  #missing(cause: unknown): CliError {
    return new CliError({
      exit: 'failed',
      code: 'KUBECTL',
      message: `${this.#program} cannot be started`,
      hint: 'install kubectl, or name it with --kubectl',
      cause,
    });
  }
}

export type ClusterObject = {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
};
