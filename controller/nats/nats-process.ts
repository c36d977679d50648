import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { joinHostPort } from '../../shared/config/listen-address.js';
import { CulvertError } from '../../shared/errors.js';
import { findProgram, programPath } from '../../shared/program-path.js';
import { parseNatsLogLine, type NatsLogLine } from './nats-log-line.js';
import { writePidFile } from './orphan.js';

export type NatsProcessOptions = {
  readonly command: string;
  readonly configFile: string;
  readonly pidFile: string;
  readonly onLine: (line: NatsLogLine) => void;
};

/** One run of nats-server that is ready. */
export interface NatsProcess {
  readonly pid: number;
  readonly port: number;
  /** Resolves when the process has ended, with a text that says how. */
  readonly exited: Promise<string>;
  /** Sends SIGTERM, and SIGKILL after ten seconds. */
  stop(): Promise<void>;
  /** Sends SIGHUP to reload configuration and certificates. Open connections stay. Errors: `NATS_RELOAD_FAILED`. */
  reload(): Promise<void>;
}

/** The server needs a while to restore a large store before it is ready. */
const readyTimeoutMs = 60_000;
const notReady = `it was not ready after ${readyTimeoutMs / 1000} s`;
const stopTimeoutMs = 10_000;
const reloadTimeoutMs = 5000;

/** Starts the server and waits until it accepts clients. Errors: `NATS_START_FAILED`, with hints for the usual causes. */
export async function startNatsProcess(options: NatsProcessOptions): Promise<NatsProcess> {
  const [file, ...args] = commandLine(options);
  const env = { ...process.env, PATH: programPath() };
  const child = spawn(file, args, { stdio: ['ignore', 'ignore', 'pipe'], env });
  const listeners = new Set<(line: NatsLogLine) => void>([options.onLine]);
  const lines = createInterface({ input: child.stderr });
  lines.on('line', (text) => {
    const line = parseNatsLogLine(text);
    for (const listener of listeners) listener(line);
  });
  const exited = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) =>
      resolve(signal === null ? `it exited with code ${code}` : `it was killed by ${signal}`),
    );
  });
  // Starts listening before the pid file is written: the server may be ready by then.
  const ready = waitUntilReady(child, listeners, exited);
  const [port] = await Promise.all([
    ready,
    child.pid === undefined ? undefined : writePidFile(options.pidFile, child.pid),
  ]).catch(async (error: unknown) => {
    // A server without an owner would keep the port and the store from the next one.
    await stop(child, exited);
    throw error;
  });
  return {
    pid: child.pid ?? 0,
    port,
    exited,
    stop: () => stop(child, exited),
    reload: () => reload(child, listeners, exited),
  };
}

/** With `setpriv` (util-linux) the kernel stops the server whenever the controller dies: prctl(2), PR_SET_PDEATHSIG. */
function commandLine(options: NatsProcessOptions): readonly [program: string, ...args: string[]] {
  const setpriv = findProgram('setpriv');
  const server = [options.command, '--config', options.configFile] as const;
  return setpriv === null ? server : [setpriv, '--pdeathsig', 'TERM', ...server];
}

async function waitUntilReady(
  child: ChildProcess,
  listeners: Set<(line: NatsLogLine) => void>,
  exited: Promise<string>,
): Promise<number> {
  let port = 0;
  const complaints: string[] = [];
  const { promise, stop: stopWaiting } = waitForLine(listeners, readyTimeoutMs, (line) => {
    if (line.level === 'fatal' || line.level === 'error') complaints.push(line.text);
    if (line.event?.kind === 'listening') port = line.event.port;
    return line.event?.kind === 'ready' ? true : undefined;
  });
  const outcome = await Promise.race([promise, exited]);
  stopWaiting();
  if (outcome === true) return port;
  if (outcome === undefined) await stop(child, exited);
  throw startFailure(typeof outcome === 'string' ? outcome : notReady, complaints.at(-1));
}

/** Returns when the process has ended, also when it had ended before. */
async function stop(child: ChildProcess, exited: Promise<string>): Promise<void> {
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
  await exited;
  clearTimeout(timer);
}

async function reload(
  child: ChildProcess,
  listeners: Set<(line: NatsLogLine) => void>,
  exited: Promise<string>,
): Promise<void> {
  let why = `it did not confirm within ${reloadTimeoutMs / 1000} s`;
  const { promise, stop: stopWaiting } = waitForLine(listeners, reloadTimeoutMs, (line) => {
    if (line.event?.kind === 'reload-failed') why = line.text;
    if (line.event?.kind === 'reload-failed') return false;
    return line.event?.kind === 'reloaded' ? true : undefined;
  });
  child.kill('SIGHUP');
  const outcome = await Promise.race([promise, exited]);
  stopWaiting();
  if (outcome === true) return;
  throw new CulvertError({
    code: 'NATS_RELOAD_FAILED',
    message: `nats-server did not load its new certificate: ${typeof outcome === 'string' ? outcome : why}`,
    hint: 'the old one stays in use; check the log lines of nats-server above',
  });
}

/** Resolves with the first result of `check` that is not undefined, or with undefined after the timeout. */
function waitForLine(
  listeners: Set<(line: NatsLogLine) => void>,
  timeoutMs: number,
  check: (line: NatsLogLine) => boolean | undefined,
): { promise: Promise<boolean | undefined>; stop: () => void } {
  let settle: (outcome: boolean | undefined) => void = () => undefined;
  const promise = new Promise<boolean | undefined>((resolve) => {
    settle = resolve;
  });
  const timer = setTimeout(() => settle(undefined), timeoutMs);
  const listener = (line: NatsLogLine): void => {
    const outcome = check(line);
    if (outcome !== undefined) settle(outcome);
  };
  listeners.add(listener);
  const stopWaiting = (): void => {
    clearTimeout(timer);
    listeners.delete(listener);
  };
  return { promise, stop: stopWaiting };
}

/** Port 0 is any free one. Errors: `NATS_START_FAILED`, as when the server finds it. */
export async function assertCanListen({ host, port }: { readonly host: string; readonly port: number }): Promise<void> {
  if (port === 0) return;
  const server = createServer();
  try {
    server.listen({ host, port, exclusive: true });
    await once(server, 'listening');
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    const problems: Readonly<Record<string, string>> = {
      EADDRINUSE: 'address already in use',
      EADDRNOTAVAIL: 'cannot assign requested address',
    };
    const problem = problems[code];
    // Other problems are the server's own to find: it may have rights that this process does not have.
    if (problem !== undefined) throw startFailure(`listen tcp ${joinHostPort(host, port)}: ${problem}`, undefined);
    return;
  }
  server.close();
  await once(server, 'close');
}

function startFailure(outcome: string, complaint: string | undefined): CulvertError {
  const text = complaint ?? outcome;
  const causes: readonly (readonly [RegExp, string])[] = [
    [
      /address already in use/,
      "stop the program that uses the port (the nats-server that Debian's package starts: systemctl disable --now nats-server), or choose another with --nats-listen HOST:PORT",
    ],
    [/cannot assign requested address/, 'use an address of this host for --nats-listen HOST:PORT'],
    [/no space left on device|insufficient storage/i, 'free disk space in the state directory, then start again'],
    [/permission denied/i, 'run the controller as the owner of its state directory'],
  ];
  return new CulvertError({
    code: 'NATS_START_FAILED',
    message: `nats-server did not start: ${text}`,
    hint: causes.find(([pattern]) => pattern.test(text))?.[1] ?? 'check the log lines of nats-server above',
  });
}
