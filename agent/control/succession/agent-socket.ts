import { chmodSync, renameSync, rmSync } from 'node:fs';
import net from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../../shared/errors.js';
import { version } from '../../../shared/version.js';
import type { Log } from '../../../shared/log.js';
import { makeStateDirectory } from '../../../shared/private-file.js';
import { passSockets } from '../../native/passed-sockets.js';

/** Where the running agent of a state directory answers other processes of this host. */
export function agentSocketPath(stateDir: string): string {
  return join(stateDir, 'agent.sock');
}

/** One line each. `who`: who runs? `copy`: its sockets. `succeed`: its sockets, and `taken` follows. */
export type AgentRequest = 'who' | 'copy' | 'succeed' | 'taken';

/** The answer to each request but `taken`, which is answered by {@link yours}. */
export type AgentAnswer = {
  readonly pid: number;
  readonly version: string;
  /** It was told to stop, and only lets its open connections end. */
  readonly isStopping?: boolean;
};

/** From now on the process that asked is in charge of capture and state on this host. */
export const yours = 'yours';
/** Another process was first: it is in charge, and this one must not be. */
export const taken = 'taken';

/**
 * How long letting go may take: a load of rules that runs is waited for, and nothing new is begun. After it the successor is in
 * charge all the same, because a host without an agent is worse than rules that are loaded twice.
 */
export const letGoMs = 20_000;

/** A longer name cannot be a unix socket's (unix(7)); the system would cut it off. */
const maxPathBytes = 107;

const maxRequestLength = 64;

/**
 * The running agent's end of succession: gives copies of its listening sockets to the process that takes over (and to
 * the supervisor, which keeps them in case the agent dies), and lets go when the successor serves. Only root can
 * connect: the socket has mode 0600.
 */
export class AgentSocket {
  readonly #path: string;
  readonly #server: net.Server;
  readonly #log: Log;
  readonly #sockets: () => readonly number[];
  readonly #letGo: () => Promise<void>;
  readonly #letGoWithinMs: number;
  readonly #isStopping: () => boolean;
  readonly #successors = new Set<net.Socket>();
  #isSucceeded = false;

  private constructor(init: AgentSocketInit) {
    this.#path = agentSocketPath(init.stateDir);
    this.#log = init.log;
    this.#sockets = init.sockets;
    this.#letGo = init.letGo;
    this.#letGoWithinMs = init.letGoWithinMs ?? letGoMs;
    this.#isStopping = init.isStopping;
    this.#server = net.createServer((connection) => this.#serve(connection));
    this.#server.unref();
  }

  /** Without the socket the agent works, but no other process can take over from it: a problem is logged. */
  static async open(init: AgentSocketInit): Promise<AgentSocket> {
    const socket = new AgentSocket(init);
    // A name of its own first: this process must never take away the name of its predecessor before it is in charge,
    // nor its successor's when it closes.
    const own = `${socket.#path}.${process.pid}`;
    try {
      if (Buffer.byteLength(own) > maxPathBytes) throw new Error('its path is too long for a socket');
      await makeStateDirectory(dirname(own));
      rmSync(own, { force: true });
      await new Promise<void>((resolve, reject) => {
        socket.#server.once('error', reject);
        socket.#server.listen(own, resolve);
      });
      socket.#server.on('error', (error) => init.log.error({ err: error }, 'the socket for a successor failed'));
      chmodSync(own, 0o600);
      renameSync(own, socket.#path);
    } catch (error) {
      const problem = describeError(error);
      init.log.error({ path: socket.#path, problem }, 'no other process can take over from this agent without a gap');
    }
    return socket;
  }

  /** A process is about to take over, and may accept on this one's sockets already. */
  get hasSuccessor(): boolean {
    return this.#successors.size > 0;
  }

  close(): void {
    this.#server.close();
    if (!this.#isSucceeded) rmSync(this.#path, { force: true });
  }

  #serve(connection: net.Socket): void {
    connection.on('error', (error) => this.#log.warn({ err: error }, 'a process that asked this agent went away'));
    connection.setEncoding('utf8');
    let text = '';
    connection.on('data', (part: string) => {
      text += part;
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const request = text.slice(0, end);
        text = text.slice(end + 1);
        this.#answer(connection, request);
      }
      if (text.length > maxRequestLength) connection.destroy();
    });
  }

  async #letGoInTime(): Promise<void> {
    const timer = new AbortController();
    const late = delay(this.#letGoWithinMs, true, { signal: timer.signal }).catch(() => false);
    const isLate = await Promise.race([this.#letGo().then(() => false), late]);
    timer.abort();
    if (isLate)
      this.#log.error({ withinMs: this.#letGoWithinMs }, 'the agent did not let go in time; its successor begins');
  }

  #answer(connection: net.Socket, request: string): void {
    const answer: AgentAnswer = { pid: process.pid, version, isStopping: this.#isStopping() };
    try {
      switch (request as AgentRequest) {
        case 'who':
          passSockets({ connection, fds: [], answer: JSON.stringify(answer) });
          return;
        case 'succeed':
          this.#successors.add(connection);
          connection.once('close', () => this.#successors.delete(connection));
          passSockets({ connection, fds: this.#sockets(), answer: JSON.stringify(answer) });
          return;
        case 'copy':
          passSockets({ connection, fds: this.#sockets(), answer: JSON.stringify(answer) });
          return;
        case 'taken':
          if (this.#isSucceeded) {
            connection.end(`${taken}\n`);
            return;
          }
          this.#isSucceeded = true;
          void this.#letGoInTime().then(() => connection.end(`${yours}\n`));
          return;
        default:
          this.#log.warn({ request }, 'a process asked this agent for something unknown');
          connection.destroy();
      }
    } catch (error) {
      this.#log.warn({ err: error, request }, 'a process that asked this agent could not be answered');
      connection.destroy();
    }
  }
}

export type AgentSocketInit = {
  /** Default: {@link letGoMs}. */
  readonly letGoWithinMs?: number;
  readonly stateDir: string;
  readonly log: Log;
  /** Every listening socket of this process. */
  readonly sockets: () => readonly number[];
  readonly isStopping: () => boolean;
  /** Stops to manage this host; resolves when the successor may do so. Never rejects. */
  readonly letGo: () => Promise<void>;
};
