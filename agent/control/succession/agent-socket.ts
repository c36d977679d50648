import { rmSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../../shared/errors.js';
import { version } from '../../../shared/version.js';
import type { Log } from '../../../shared/log.js';
import { listenPrivately } from '../state/private-socket.js';
import { passSockets } from '../../native/passed-sockets.js';

/** Where the running agent of a state directory answers other processes of this host. */
export function agentSocketPath(stateDir: string): string {
  return join(stateDir, 'agent.sock');
}

/** One line each. `who`: who runs? `copy`: its workloads' sockets. `succeed`: all its sockets, and `taken` follows. */
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

const maxRequestLength = 64;
/** The first bytes of an HTTP request, which no other request here begins with. */
const httpStart = /^[A-Z]{3}/;

/** Before the next attempt to make the socket. */
const retryMs = 5000;

/**
 * Where the running agent answers other processes of this host. It gives copies of its listening sockets to the process that
 * takes over (and to the supervisor, which keeps them in case the agent dies), and lets go when the successor serves. It hands
 * connections that speak HTTP to the admin routes. Only root can connect: the socket has mode 0600.
 */
export class AgentSocket {
  readonly #path: string;
  readonly #server: net.Server;
  readonly #log: Log;
  readonly #sockets: AgentSocketInit['sockets'];
  readonly #letGo: () => Promise<void>;
  readonly #letGoWithinMs: number;
  readonly #isStopping: () => boolean;
  readonly #onOpen: () => void;
  readonly #serveHttp: (connection: net.Socket) => void;
  readonly #retryMs: number;
  readonly #successors = new Set<net.Socket>();
  #isSucceeded = false;
  #isClosed = false;
  #problem: string | null = null;
  #retry: NodeJS.Timeout | null = null;

  private constructor(init: AgentSocketInit) {
    this.#path = agentSocketPath(init.stateDir);
    this.#log = init.log;
    this.#sockets = init.sockets;
    this.#letGo = init.letGo;
    this.#letGoWithinMs = init.letGoWithinMs ?? letGoMs;
    this.#isStopping = init.isStopping;
    this.#onOpen = init.onOpen ?? (() => undefined);
    this.#serveHttp = init.serveHttp ?? ((connection) => connection.destroy());
    this.#retryMs = init.retryMs ?? retryMs;
    this.#server = net.createServer((connection) => this.#serve(connection));
    this.#server.unref();
  }

  /**
   * Without the socket the agent works, but no other process can take over from it: {@link problem} says so, and it is
   * tried again until it is there.
   */
  static async open(init: AgentSocketInit): Promise<AgentSocket> {
    const socket = new AgentSocket(init);
    await socket.#tryToListen();
    return socket;
  }

  /** Why no other process can take over; null: one can. */
  get problem(): string | null {
    return this.#problem;
  }

  /** A process is about to take over, and may accept on this one's sockets already. */
  get hasSuccessor(): boolean {
    return this.#successors.size > 0;
  }

  close(): void {
    this.#isClosed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#server.close();
    // Without the socket, the name is not this process's.
    if (!this.#isSucceeded && this.#problem === null) rmSync(this.#path, { force: true });
  }

  async #tryToListen(): Promise<void> {
    try {
      await this.#listen();
    } catch (error) {
      this.#onFailure(describeError(error));
      return;
    }
    if (this.#problem === null) return;
    this.#problem = null;
    this.#log.info({ path: this.#path }, 'another process can take over from this agent now');
    this.#onOpen();
  }

  /** This process must never take away the name of its predecessor before it is in charge, nor its successor's when it closes. */
  async #listen(): Promise<void> {
    await listenPrivately(this.#server, {
      path: this.#path,
      mayListen: async () => {
        // While this one had no name, another agent may have begun.
        if (this.#problem !== null && (await isAnswered(this.#path))) throw new Error('another agent has the socket');
      },
      isClosed: () => this.#isClosed,
      onError: (error) => this.#log.error({ err: error }, 'the socket for a successor failed'),
    });
  }

  #onFailure(problem: string): void {
    if (this.#isClosed) return;
    if (problem !== this.#problem) {
      const text = 'no other process can take over from this agent without a gap; retrying';
      this.#log.error({ path: this.#path, problem }, text);
    }
    this.#problem = problem;
    this.#retry = setTimeout(() => void this.#tryToListen(), this.#retryMs);
    this.#retry.unref();
  }

  #serve(connection: net.Socket): void {
    const onError = (error: Error): void => this.#log.warn({ err: error }, 'a process that asked this agent went away');
    connection.on('error', onError);
    let text = '';
    const onData = (part: Buffer): void => {
      if (text === '' && httpStart.test(part.toString('latin1'))) {
        connection.off('data', onData);
        connection.pause();
        connection.unshift(part);
        this.#serveHttp(connection);
        connection.off('error', onError);
        connection.resume();
        return;
      }
      text += part.toString('latin1');
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const request = text.slice(0, end);
        text = text.slice(end + 1);
        this.#answer(connection, request);
      }
      if (text.length > maxRequestLength) connection.destroy();
    };
    connection.on('data', onData);
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
          passSockets({
            connection,
            fds: [...this.#sockets.ofEndpoints(), ...this.#sockets.ofWorkloads()],
            answer: JSON.stringify(answer),
          });
          return;
        case 'copy':
          passSockets({ connection, fds: this.#sockets.ofWorkloads(), answer: JSON.stringify(answer) });
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

/** Whether a process listens on the socket. */
async function isAnswered(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const connection = net.connect(path);
    const settle = (answer: boolean): void => {
      connection.destroy();
      resolve(answer);
    };
    connection.once('connect', () => settle(true));
    connection.on('error', () => settle(false));
  });
}

export type AgentSocketInit = {
  /** Default: {@link letGoMs}. */
  readonly letGoWithinMs?: number;
  /** The socket is there after it could not be made before. */
  readonly onOpen?: () => void;
  /** Default: {@link retryMs}. */
  readonly retryMs?: number;
  readonly stateDir: string;
  readonly log: Log;
  /**
   * The listening sockets of this process. The supervisor gets those of workloads only: copies of the others would keep the
   * addresses of endpoints from an agent that is to have other ones.
   */
  readonly sockets: { readonly ofWorkloads: () => readonly number[]; readonly ofEndpoints: () => readonly number[] };
  readonly isStopping: () => boolean;
  /** Serves a connection that speaks HTTP. Without it, such a connection is closed. */
  readonly serveHttp?: (connection: net.Socket) => void;
  /** Stops to manage this host; resolves when the successor may do so. Never rejects. */
  readonly letGo: () => Promise<void>;
};
