import net from 'node:net';
import { CulvertError } from '../../../shared/errors.js';
import { closeFd } from '../../native/addon.js';
import { takeSockets } from '../../native/passed-sockets.js';
import { agentSocketPath, letGoMs, taken, yours, type AgentAnswer, type AgentRequest } from './agent-socket.js';

const answerTimeoutMs = 2000;
/** More than the running agent takes to let go, so that it has answered unless it hangs. */
const letGoTimeoutMs = letGoMs + 5000;

/** The agent that runs with this state directory; null: none does. Throws if one is there and does not answer. */
export function findRunningAgent(stateDir: string): AgentAnswer | null {
  return ask(stateDir, 'who', closeFd)?.answer ?? null;
}

/**
 * Throws CulvertError `AGENT_RUNS` if an agent runs with this state directory, unless it is stopping: a take-over
 * never happens by mistake.
 */
export function requireNoAgent(stateDir: string): void {
  const running = findRunningAgent(stateDir);
  if (running === null || running.isStopping === true) return;
  throw new CulvertError({
    code: 'AGENT_RUNS',
    message: `an agent runs with this state directory already (pid ${running.pid}, version ${running.version})`,
    hint:
      'to replace it without refusing a connection, start this one with --take-over, or use "systemctl reload ' +
      'culvert-agent" (SIGHUP to culvert-agent supervise)',
  });
}

/** Copies of the running agent's listening sockets, which become the caller's; null if no agent runs. Throws as above. */
export function copySockets(stateDir: string): readonly number[] | null {
  return ask(stateDir, 'copy', closeFd)?.fds ?? null;
}

/** The agent that runs and from which this process takes over: it serves until {@link takeOver}. */
export class Predecessor {
  readonly pid: number;
  /** Copies of its listening sockets. They become the caller's. */
  readonly sockets: readonly number[];
  readonly #connection: net.Socket;
  #isGone = false;

  private constructor(init: { readonly pid: number; readonly sockets: readonly number[]; connection: net.Socket }) {
    this.pid = init.pid;
    this.sockets = init.sockets;
    this.#connection = init.connection;
    this.#connection.on('error', () => (this.#isGone = true));
    this.#connection.on('close', () => (this.#isGone = true));
    this.#connection.unref();
  }

  /**
   * Null: no agent runs. Throws CulvertError `AGENT_SILENT` if one is there and does not answer, `EMFILE` or
   * `ENFILE` if its sockets are too many for this process.
   */
  static find(stateDir: string): Predecessor | null {
    const found = ask(stateDir, 'succeed', (fd) => new net.Socket({ fd, readable: true, writable: true }));
    if (found === null) return null;
    const { answer, fds, connection } = found;
    return new Predecessor({ pid: answer.pid, sockets: fds, connection });
  }

  /**
   * Call when this process accepts connections on the sockets. Resolves when the predecessor has let go of this host; it
   * then only lets its open connections end. One that died meanwhile has let go too.
   */
  async takeOver(): Promise<void> {
    const request: AgentRequest = 'taken';
    this.#connection.ref();
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(silent(this.pid)), letGoTimeoutMs);
      const settle = (): void => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#isGone) return settle();
      this.#connection.once('close', settle);
      this.#connection.setEncoding('utf8');
      this.#connection.on('data', (text: string) => {
        if (text.includes(yours)) settle();
        if (!text.includes(taken)) return;
        clearTimeout(timer);
        reject(new CulvertError({ code: 'TAKE_OVER', message: 'another agent took over this host first' }));
      });
      this.#connection.write(`${request}\n`);
    });
    this.#connection.destroy();
  }

  /** The predecessor goes on as before. */
  giveUp(): void {
    this.#connection.destroy();
  }
}

function ask<T>(
  stateDir: string,
  request: AgentRequest,
  connect: (connectionFd: number) => T,
): { readonly answer: AgentAnswer; readonly fds: readonly number[]; readonly connection: T } | null {
  const path = agentSocketPath(stateDir);
  try {
    const { connectionFd, answer, fds } = takeSockets({ path, request, timeoutMs: answerTimeoutMs });
    return { answer: JSON.parse(answer) as AgentAnswer, fds, connection: connect(connectionFd) };
  } catch (error) {
    const code = error instanceof CulvertError ? error.code : '';
    // The last two: such a path cannot be a socket's, so no agent listens there.
    if (['ENOENT', 'ECONNREFUSED', 'ENAMETOOLONG', 'ENOTDIR'].includes(code)) return null;
    if (code === 'EMFILE' || code === 'ENFILE') throw tooManyFiles(code, error);
    throw silent(null, error);
  }
}

function tooManyFiles(code: string, cause: unknown): CulvertError {
  return new CulvertError({
    code,
    message: 'this process may not open enough files to take the listening sockets of the agent that runs',
    hint:
      code === 'EMFILE'
        ? 'raise the limit of open files (LimitNOFILE=, ulimit -n) to at least that of the running agent'
        : "raise the host's limit of open files (sysctl fs.file-max)",
    cause,
  });
}

function silent(pid: number | null, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'AGENT_SILENT',
    message: `the agent that runs with this state directory${pid === null ? '' : ` (pid ${pid})`} does not answer`,
    hint: 'two agents must not manage one host: stop it (kill PID), or kill -9 it if it hangs, and try again',
    ...(cause === undefined ? {} : { cause }),
  });
}
