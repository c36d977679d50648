import { spawn } from 'node:child_process';
import { personalPath } from '../../../shared/program-path.js';
import { CliError } from '../exit-codes.js';

/** Of what is no JSON, in characters. */
const maxShown = 80;
/** Of what kubectl says, in characters. */
const maxProblem = 400;

/** Much more than an object, or a list of some, has. */
const maxOutputBytes = 64 * 1024 * 1024;

export type KubectlResult = { readonly code: number; readonly out: string; readonly err: string };

/** The user's kubectl, with the user's access to a cluster. Errors: `KUBECTL`. */
export class Kubectl {
  readonly #program: string;
  readonly #context: string | null;
  readonly #hint: string;
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(init: {
    readonly program: string;
    /** Context of kubectl; null: the current one. */
    readonly context: string | null;
    /** What to do when a command fails that must not. */
    readonly hint: string;
    readonly env: Readonly<Record<string, string | undefined>>;
  }) {
    this.#program = init.program;
    this.#context = init.context;
    this.#hint = init.hint;
    this.#env = init.env;
  }

  /** Runs it to its end, whatever its exit code. */
  run(args: readonly string[], input = ''): Promise<KubectlResult> {
    return new Promise((resolve, reject) => {
      const env = { ...this.#env, PATH: personalPath(this.#env['PATH']) };
      const child = spawn(this.#program, [...this.#options(), ...args], { env, stdio: 'pipe' });
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

  /** The same, with another word on what to do. */
  withHint(hint: string): Kubectl {
    return new Kubectl({ program: this.#program, context: this.#context, hint, env: this.#env });
  }

  async succeed(args: readonly string[], input?: string): Promise<string> {
    const result = await this.run(args, input);
    if (result.code === 0) return result.out;
    throw this.#failed(args, saidBy(result), this.#hint);
  }

  /** What it prints, as the JSON that was asked for. */
  async json<T>(args: readonly string[]): Promise<T> {
    return this.parsed<T>(await this.succeed(args), args);
  }

  /** JSON that the command with these arguments has printed. */
  parsed<T>(out: string, args: readonly string[]): T {
    try {
      return JSON.parse(out) as T;
    } catch {
      const shown = out === '' ? 'nothing' : JSON.stringify(out.slice(0, maxShown));
      throw this.#failed(
        args,
        `it printed ${shown} in place of JSON`,
        `is ${this.#program} a kubectl? Name one with --kubectl`,
      );
    }
  }

  /** The items of a list. */
  async items(args: readonly string[]): Promise<readonly ClusterObject[]> {
    return (await this.json<{ readonly items: readonly ClusterObject[] }>(['get', ...args, '-o', 'json'])).items;
  }

  /** One object; null: there is none. */
  async find(args: readonly string[]): Promise<ClusterObject | null> {
    const asked = ['get', ...args, '-o', 'json', '--ignore-not-found'];
    const text = await this.succeed(asked);
    return text === '' ? null : this.parsed<ClusterObject>(text, asked);
  }

  #options(): readonly string[] {
    return this.#context === null ? [] : [`--context=${this.#context}`];
  }

  #failed(args: readonly string[], problem: string, hint: string): CliError {
    const message = `${[this.#program, ...this.#options(), ...args].join(' ')}: ${problem}`;
    return new CliError({ exit: 'failed', code: 'KUBECTL', message, hint });
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
    readonly ownerReferences?: readonly { readonly kind: string; readonly name: string }[];
  };
};

/** Why a command failed, as one line. */
export function problemOf(result: KubectlResult): string {
  return saidBy(result)
    .split('\n')
    .join(' ')
    .replace(/^Error from server \(\w+\): /, '')
    .replace(/^error when creating "STDIN": /, '')
    .slice(0, maxProblem);
}

/** As klog writes them: `E1201 21:00:00.000000    1234 memcache.go:265] "Unhandled Error"`. */
const logLine = /^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^ ]+:\d+\] /;

/** What kubectl says of a failure, without warnings of the server and lines of its log, unless there is nothing else. */
function saidBy({ err, code }: KubectlResult): string {
  if (err === '') return `it ended with ${code}`;
  const lines = err.split('\n').filter((line) => line !== '' && !line.startsWith('Warning: ') && !logLine.test(line));
  return lines.length === 0 ? err : lines.join('\n');
}
