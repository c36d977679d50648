import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { closeSync, createWriteStream, openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CulvertError } from '../../shared/errors.js';
import { killGroup } from './command.js';
import { PatientTimer } from './patience.js';
import { labEnvironment } from './programs.js';

export type SpawnOptions = {
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Descriptors that it inherits, from 3 on. They stay the caller's. */
  readonly fds?: readonly number[];
  /** Every line of stdout and stderr is appended here too. */
  readonly logFile?: string;
  /**
   * The program writes directly to this file, like a service under a supervisor. This process does not read the output, so
   * `lines` stays empty and a measurement does not pay for reading a busy log.
   */
  readonly outputFile?: string;
};

export type ProcessExit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/** How much of the output is kept for `waitForLine` and error texts. */
const keptLines = 5000;

/**
 * A running program whose output is read line by line. It leads its own process group, so that `stop` reaches its children
 * and Ctrl-C at the terminal does not reach it. Its owner stops it, or else the teardown of the lab.
 */
export class LabProcess implements AsyncDisposable {
  readonly pid: number;
  /** Settles when the program has ended and its output is read and logged. Never rejects. */
  readonly exited: Promise<ProcessExit>;
  readonly #argv: readonly string[];
  readonly #outputFile: string | undefined;
  readonly #lines: string[] = [];
  readonly #listeners = new Set<(line: string | null) => void>();
  #exit: ProcessExit | null = null;

  private constructor(init: {
    argv: readonly string[];
    child: ChildProcess;
    pid: number;
    logFile: string | undefined;
    outputFile: string | undefined;
  }) {
    this.#argv = init.argv;
    this.#outputFile = init.outputFile;
    this.pid = init.pid;
    const log = init.logFile === undefined ? null : createWriteStream(init.logFile, { flags: 'a', mode: 0o600 });
    log?.on('error', (error) => this.#addLine(`the log file cannot be written: ${error.message}`));
    for (const stream of [init.child.stdout, init.child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        log?.write(`${line}\n`);
        this.#addLine(line);
      });
    }
    this.exited = new Promise((resolve) => {
      init.child.once('exit', (code, signal) => {
        const settle = (): void => {
          this.#exit = { code, signal };
          for (const listener of this.#listeners) listener(null);
          resolve(this.#exit);
        };
        // A daemon that it started may keep the pipes open forever, so its last lines get only a moment.
        const timer = setTimeout(settle, 500);
        init.child.once('close', () => {
          clearTimeout(timer);
          if (log === null) settle();
          else log.end(settle);
        });
      });
    });
  }

  /** Resolves once the program runs. Throws `COMMAND_NOT_STARTED`. */
  static async start(argv: readonly string[], options: SpawnOptions = {}): Promise<LabProcess> {
    const [program = '', ...args] = argv;
    const output = options.outputFile === undefined ? null : openSync(options.outputFile, 'a', 0o600);
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', output ?? 'pipe', output ?? 'pipe', ...(options.fds ?? [])],
      env: { ...labEnvironment, ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    // The child has its own copy of it by now.
    if (output !== null) closeSync(output);
    const failure = new Promise<Error>((resolve) => child.once('error', resolve));
    if (child.pid === undefined) {
      const message = `"${program}" could not be started.`;
      throw new CulvertError({
        code: 'COMMAND_NOT_STARTED',
        message,
        hint: `install ${program}`,
        cause: await failure,
      });
    }
    return new LabProcess({ argv, child, pid: child.pid, logFile: options.logFile, outputFile: options.outputFile });
  }

  get hasExited(): boolean {
    return this.#exit !== null;
  }

  /** Throws `LAB_PROCESS_ENDED`, with the last lines that it wrote, when the program has ended. For what waits for it. */
  requireRunning(): void {
    if (this.#exit === null) return;
    const { code, signal } = this.#exit;
    throw this.#failure('LAB_PROCESS_ENDED', signal === null ? `ended with code ${code}` : `was ended by ${signal}`);
  }

  /** The last lines of stdout and stderr, in order of arrival. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /**
   * Returns the first matching line that was written or is written within `deadlineMs`. Throws `LAB_PROCESS_ENDED` and
   * `LAB_PROCESS_DEADLINE` with the last lines of output.
   */
  async waitForLine(pattern: RegExp, deadlineMs = 30_000): Promise<RegExpExecArray> {
    for (const line of this.#lines) {
      const match = pattern.exec(line);
      if (match !== null) return match;
    }
    if (this.#exit !== null) throw this.#failure('LAB_PROCESS_ENDED', `ended before it wrote ${pattern}`);
    let listener: (line: string | null) => void = () => {};
    let timer: PatientTimer | undefined;
    try {
      return await new Promise((resolve, reject) => {
        listener = (line) => {
          const match = line === null ? null : pattern.exec(line);
          if (match !== null) resolve(match);
          if (line === null) reject(this.#failure('LAB_PROCESS_ENDED', `ended before it wrote ${pattern}`));
        };
        this.#listeners.add(listener);
        timer = new PatientTimer(deadlineMs, () => {
          reject(this.#failure('LAB_PROCESS_DEADLINE', `did not write ${pattern} within ${deadlineMs} ms`));
        });
      });
    } finally {
      timer?.clear();
      this.#listeners.delete(listener);
    }
  }

  /** Signals the process group and waits for the end; SIGKILL follows after `graceMs`. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', graceMs = 5000): Promise<ProcessExit> {
    if (this.#exit !== null) return this.#exit;
    this.signal(signal);
    const timer = setTimeout(() => this.signal('SIGKILL'), graceMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Signals the process group and returns at once. */
  signal(signal: NodeJS.Signals): void {
    if (this.#exit === null) killGroup(this.pid, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #addLine(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > keptLines) this.#lines.splice(0, keptLines / 2);
    for (const listener of this.#listeners) listener(line);
  }

  #failure(code: string, what: string): CulvertError {
    const written =
      this.#outputFile === undefined ? this.#lines : readFileSync(this.#outputFile, 'utf8').trim().split('\n');
    const tail = written.slice(-20).join('\n');
    return new CulvertError({
      code,
      message: `"${this.#argv.join(' ')}" (pid ${this.pid}) ${what}. It wrote:\n${tail}`,
    });
  }
}
