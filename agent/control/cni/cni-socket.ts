import { rmSync } from 'node:fs';
import net from 'node:net';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { listenPrivately } from '../state/private-socket.js';
import { peerUserOf } from '../../native/passed-sockets.js';
import { type CniOutcome, type CniRequest, maxRequestBytes, parseCniRequest } from './cni-request.js';

/** A plugin sends its one line at once. */
const requestTimeoutMs = 2000;
/** Pods that start at the same time. The kubelet starts ten at most by default. */
const maxConnections = 64;
/** What is more than this is not answered: the plugin asks again. */
const maxRequestsPerSecond = 200;
/** Before the next attempt to make the socket. */
const retryMs = 5000;

type CniSocketInit = {
  readonly path: string;
  readonly log: Log;
  /** Never rejects. `signal`: the plugin has gone. */
  readonly answer: (request: CniRequest, signal: AbortSignal) => Promise<CniOutcome>;
  /** Who may ask. Default: root. */
  readonly user?: number;
  /** Default: {@link retryMs}. */
  readonly retryMs?: number;
  /** Default: {@link maxRequestsPerSecond}. */
  readonly maxRequestsPerSecond?: number;
};

/**
 * Where the agent answers the CNI plugin of its node: one line of JSON, one line back. Only root may ask: the socket has mode
 * 0600, and the kernel says who connected.
 */
export class CniSocket {
  readonly #init: CniSocketInit;
  readonly #server: net.Server;
  readonly #connections = new Set<net.Socket>();
  #second = 0;
  #requests = 0;
  #problem: string | null = 'it is not open yet';
  #retry: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(init: CniSocketInit) {
    this.#init = init;
    this.#server = net.createServer((connection) => this.#serve(connection));
    this.#server.unref();
    this.#server.maxConnections = maxConnections;
  }

  /** Why the plugin gets no answer; null: it gets one. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Tries it again and again until the socket is there. Never throws. */
  async open(): Promise<void> {
    try {
      await this.#listen();
      this.#problem = null;
    } catch (error) {
      if (this.#isClosed) return;
      const problem = describeError(error);
      const text = 'the CNI plugin of this node gets no answer; retrying';
      if (problem !== this.#problem) this.#init.log.error({ path: this.#init.path, problem }, text);
      this.#problem = problem;
      this.#retry = setTimeout(() => void this.open(), this.#init.retryMs ?? retryMs);
      this.#retry.unref();
    }
  }

  /** Plugins that wait get no answer, and ask the next agent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#server.close();
    for (const connection of this.#connections) connection.destroy();
    if (this.#problem === null) rmSync(this.#init.path, { force: true });
  }

  async #listen(): Promise<void> {
    const { path, log } = this.#init;
    await listenPrivately(this.#server, {
      path,
      isClosed: () => this.#isClosed,
      onError: (error) => log.error({ err: error }, 'the socket for the CNI plugin failed'),
    });
  }

  #serve(connection: net.Socket): void {
    this.#connections.add(connection);
    const gone = new AbortController();
    const timer = setTimeout(() => connection.destroy(), requestTimeoutMs);
    connection.on('error', () => undefined);
    connection.once('close', () => {
      clearTimeout(timer);
      this.#connections.delete(connection);
      gone.abort();
    });
    const problem = this.#refusal(connection);
    if (problem !== null) {
      this.#init.log.warn({ problem }, 'a process that is no CNI plugin asked this agent');
      connection.destroy();
      return;
    }
    let text = '';
    const onData = (part: Buffer): void => {
      text += part.toString('latin1');
      const end = text.indexOf('\n');
      if (end < 0 && text.length <= maxRequestBytes) return;
      connection.off('data', onData);
      clearTimeout(timer);
      // What comes after it is thrown away; its end is seen.
      connection.resume();
      const line = Buffer.from(text.slice(0, Math.max(0, end)), 'latin1').toString();
      void this.#answer(connection, end === text.length - 1 ? parseCniRequest(line) : null, gone.signal);
    };
    connection.on('data', onData);
  }

  /** Null: it may ask. */
  #refusal(connection: net.Socket): string | null {
    try {
      const user = peerUserOf(connection);
      return user === (this.#init.user ?? 0) ? null : `it belongs to user ${user}`;
    } catch (error) {
      return describeError(error);
    }
  }

  async #answer(connection: net.Socket, request: CniRequest | null, gone: AbortSignal): Promise<void> {
    if (request === null || !this.#isWithinRate()) {
      connection.destroy();
      return;
    }
    const outcome = await this.#init.answer(request, gone);
    const { pod, containerId, command } = request;
    if (outcome.outcome === 'failed' && !gone.aborted) {
      this.#init.log.warn(
        { command, pod, containerId, problem: outcome.problem },
        'the CNI plugin got a failure for an answer',
      );
    }
    connection.end(`${JSON.stringify(bounded(outcome))}\n`);
  }

  #isWithinRate(): boolean {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#second) [this.#second, this.#requests] = [second, 0];
    return ++this.#requests <= (this.#init.maxRequestsPerSecond ?? maxRequestsPerSecond);
  }
}

/** The plugin takes problems of 511 bytes. */
function bounded(outcome: CniOutcome): CniOutcome {
  if (outcome.outcome !== 'failed') return outcome;
  const bytes = Buffer.from(outcome.problem).subarray(0, 500);
  // Less a character that was cut.
  return { ...outcome, problem: bytes.toString().replace(/\ufffd$/, '') };
}
