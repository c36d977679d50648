import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { LabNode } from '../../lab/lab-node.js';
import type { LabServer } from '../../lab/namespace-sockets.js';
import { waitUntil } from '../../lab/wait-until.js';
import { patientMs, patientSignal } from '../../lab/patience.js';

export type EchoTarget = { readonly ip: string; readonly port: number };

/** A server that sends back every byte, and closes its half when the client has closed its own. */
export function startEcho(at: LabNode, port = 0): Promise<LabServer> {
  return at.listen({ port }, (socket) => {
    socket.on('data', (bytes) => socket.write(bytes));
    socket.on('end', () => socket.end());
  });
}

/**
 * One connection that says `text` and wants it back: `ok`, or how it failed (`ECONNREFUSED`, `ECONNRESET`, `end`,
 * `timeout`). Never rejects, and leaves no socket behind.
 */
export async function ask(
  from: LabNode,
  target: EchoTarget,
  text = 'ping',
  timeoutMs = patientMs(20_000),
): Promise<string> {
  let socket: Socket;
  try {
    socket = await from.connect({ ...target, timeoutMs });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'LAB_CONNECT_DEADLINE' ? 'timeout' : (code ?? String(error));
  }
  try {
    socket.end(text);
    return await answerOf(socket, text, timeoutMs);
  } finally {
    socket.destroy();
  }
}

function answerOf(socket: Socket, text: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const timer = setTimeout(() => resolve('timeout'), timeoutMs);
    const settle = (how: string): void => {
      clearTimeout(timer);
      resolve(how);
    };
    socket.on('data', (bytes: Buffer) => (answer += bytes.toString()));
    socket.once('end', () => settle(answer === text ? 'ok' : 'end'));
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
    socket.once('close', () => settle('close'));
  });
}

/** A connection to an echo server that stays open. */
export class HeldConnection {
  readonly socket: Socket;
  /** How it ended: `end` or the code of its error; null while it is open. */
  ended: string | null = null;
  #opened = { fromMs: 0, toMs: 0 };
  #round = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    const settle = (how: string): void => void (this.ended ??= how);
    socket.once('end', () => settle('end'));
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
    socket.once('close', () => settle('close'));
  }

  /** Resolves when a first exchange went through. */
  static async open(from: LabNode, target: EchoTarget): Promise<HeldConnection> {
    const fromMs = Date.now();
    const held = new HeldConnection(await from.connect(target));
    await held.exchange();
    held.#opened = { fromMs, toMs: Date.now() };
    return held;
  }

  /**
   * Whether a record tells of a connection that began while this one was opened. Not by the client's port: the kernel
   * gives a connection another one when it redirects it and that port was in use just before.
   */
  isRecordedIn({ startedAt }: { readonly startedAt: string }): boolean {
    const startedAtMs = Date.parse(startedAt);
    return startedAtMs >= this.#opened.fromMs && startedAtMs <= this.#opened.toMs;
  }

  /** Says something new and waits until exactly that came back. Rejects when it does not. */
  async exchange(timeoutMs = 20_000): Promise<void> {
    const { socket } = this;
    if (this.ended !== null) throw new Error(`the connection has ended: ${this.ended}`);
    const text = `round ${++this.#round} of a held connection;`;
    let answer = '';
    await new Promise<void>((resolve, reject) => {
      const settle = (problem: string | null): void => {
        clearTimeout(timer);
        socket.off('data', onData);
        socket.off('close', onClose);
        if (problem === null) resolve();
        else reject(new Error(problem));
      };
      const onData = (bytes: Buffer): void => {
        answer += bytes.toString();
        if (answer.length < text.length) return;
        settle(answer === text ? null : `"${answer}" came back instead of "${text}"`);
      };
      const onClose = (): void => settle(`the connection has ended: ${this.ended}`);
      const timer = setTimeout(() => settle(`"${answer}" came back within ${timeoutMs} ms`), timeoutMs);
      socket.on('data', onData);
      socket.once('close', onClose);
      socket.write(text);
    });
  }

  /** How it ends: `end` (FIN) or the code of its error. Rejects when it is still open at the deadline. */
  ending(deadlineMs = 30_000): Promise<string> {
    return waitUntil('the connection has ended', () => this.ended ?? undefined, deadlineMs);
  }

  /** Closes in order; resolves with how the other side ended. */
  async close(timeoutMs = 20_000): Promise<string> {
    this.socket.end();
    this.socket.resume();
    if (this.ended === null) {
      const signal = patientSignal(timeoutMs);
      await Promise.race([
        once(this.socket, 'end', { signal }),
        new Promise((resolve) => this.socket.once('close', resolve)),
      ]);
    }
    this.socket.destroy();
    return this.ended ?? 'open';
  }
}

export type TrafficResult = { readonly attempts: number; readonly failures: readonly string[] };

/** New connections one after another, `lanes` at a time, until it is stopped. */
export class SteadyTraffic implements AsyncDisposable {
  readonly #failures: string[] = [];
  readonly #lanes: Promise<void>[];
  #attempts = 0;
  #isStopped = false;

  constructor(init: {
    readonly from: LabNode;
    readonly target: EchoTarget;
    readonly text?: string;
    readonly lanes?: number;
    /** Between two connections of a lane. */
    readonly pauseMs?: number;
  }) {
    const { from, target, text = 'ping', lanes = 1, pauseMs = 20 } = init;
    this.#lanes = Array.from({ length: lanes }, async () => {
      while (!this.#isStopped) {
        const startedAt = new Date();
        const how = await ask(from, target, text);
        this.#attempts++;
        if (how !== 'ok') this.#failures.push(`${startedAt.toISOString()} ${how}`);
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    });
  }

  /** So far. */
  get result(): TrafficResult {
    return { attempts: this.#attempts, failures: [...this.#failures] };
  }

  async stop(): Promise<TrafficResult> {
    this.#isStopped = true;
    await Promise.all(this.#lanes);
    return this.result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
