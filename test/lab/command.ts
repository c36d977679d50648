import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { CulvertError } from '../../shared/errors.js';
import { PatientTimer } from './patience.js';
import { labEnvironment } from './programs.js';

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type CommandOptions = {
  /** Written to standard input, which is then closed. */
  readonly input?: string;
  /** Default: 10 s. */
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
};

/**
 * Runs a program to its end. An exit code other than 0 is a result, not an error; it is 128 + 9 when a signal killed the
 * program. Throws `COMMAND_TIMEOUT` (after killing its process group) and `COMMAND_NOT_STARTED`.
 */
export async function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new CulvertError({ code: 'COMMAND_NOT_STARTED', message: 'There is no command.' });
  const timeoutMs = options.timeoutMs ?? 30_000;
  const child = spawn(program, args, {
    detached: true,
    // A pipe of Node is a socket, with which bash takes itself for a remote shell and runs ~/.bashrc.
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: { ...labEnvironment, ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  }) as ChildProcessByStdio<Writable | null, Readable, Readable>;
  let isLate = false;
  const timer = new PatientTimer(timeoutMs, () => {
    isLate = true;
    killGroup(child.pid, 'SIGKILL');
    // A daemon that left the group may keep the pipes open forever.
    child.stdout.destroy();
    child.stderr.destroy();
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  // A program may close its input without reading it.
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input);
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (isLate) throw timeoutError(argv, timeoutMs, stderr());
    return { code: code ?? 137, stdout: stdout(), stderr: stderr() };
  } catch (error) {
    if (error instanceof CulvertError) throw error;
    const message = `"${program}" could not be started.`;
    throw new CulvertError({ code: 'COMMAND_NOT_STARTED', message, hint: `install ${program}`, cause: error });
  } finally {
    timer.clear();
  }
}

/** Like {@link runCommand}, for a step that must succeed: otherwise throws `COMMAND_FAILED` with its stderr. */
export async function requireSuccess(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await runCommand(argv, options);
  if (result.code === 0) return result.stdout;
  throw new CulvertError({
    code: 'COMMAND_FAILED',
    message: `"${argv.join(' ')}" ended with code ${result.code}: ${result.stderr.trim()}`,
  });
}

/** Signals a detached process and its children. Does nothing when they have ended. */
export function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8');
}

function timeoutError(argv: readonly string[], timeoutMs: number, stderr: string): CulvertError {
  const message = `"${argv.join(' ')}" did not end within ${timeoutMs} ms: ${stderr.trim()}`;
  return new CulvertError({ code: 'COMMAND_TIMEOUT', message });
}
