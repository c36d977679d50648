import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type net from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { resetSocket } from '../../../agent/native/addon.js';
import { errorBehindEnd } from '../../../agent/native/tcp-life.js';

/** FIN and then reading on; `close(2)`, which is FIN or RST, as the kernel decides; RST; FIN and RST right behind it. */
export const endings = ['fin', 'close', 'reset', 'fin and reset'] as const;

/** What an application does with its connection. */
export type Plan = {
  /** What it sends before it ends. */
  readonly bytes: number;
  /** It reads all that arrives; otherwise nothing. */
  readonly reads: boolean;
  readonly ending: (typeof endings)[number];
};

export const mostBytes = 2_000_000;
/** The kernel takes less than this although nothing reads it. */
const unreadBytes = 60_000;
const text = randomBytes(mostBytes);

/** An application that follows a {@link Plan}, and notes what it sees. */
export class EndingApplication {
  readonly #socket: net.Socket;
  readonly #plan: Plan;
  received = 0;
  /** The other application closed its direction in order, as far as this one sees. */
  sawEnd = false;
  /** Its FIN came after all its bytes. */
  sentAll = true;
  readonly closed: Promise<void>;
  /** It has seen the other's end, whatever that was. */
  readonly sawEnding: Promise<void>;
  /** It has all that the other application sends. */
  readonly whole: Promise<void>;
  readonly #other: Plan;
  #onWhole = (): void => {};

  constructor(init: { readonly socket: net.Socket; readonly plan: Plan; readonly other: Plan }) {
    const { socket, plan } = init;
    this.#other = init.other;
    this.whole = init.other.bytes === 0 ? Promise.resolve() : new Promise((resolve) => (this.#onWhole = resolve));
    this.sawEnding = new Promise((resolve) => {
      for (const event of ['end', 'close']) socket.once(event, () => resolve());
    });
    this.#socket = socket;
    this.#plan = plan;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => {});
    socket.on('end', () => (this.sawEnd = errorBehindEnd(socket) === null));
    if (plan.reads) socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    if (plan.bytes > 0) socket.write(text.subarray(0, plan.bytes));
  }

  /** `other`: the application at the other end. */
  end(other: EndingApplication): void {
    const { ending, reads } = this.#plan;
    if (ending === 'close') this.#socket.destroy();
    else if (ending === 'reset') resetSocket(this.#socket);
    else if (ending === 'fin and reset') this.#endAndReset();
    else {
      this.#socket.end();
      // It would never see the other's end.
      if (!reads) void this.#hasSaidAll(other).then(() => this.#leave());
    }
  }

  #endAndReset(): void {
    if (this.#canSayAll) this.#socket.end(() => resetSocket(this.#socket));
    else {
      this.#socket.end();
      setImmediate(() => resetSocket(this.#socket));
    }
  }

  /** Its FIN has arrived, or as much as can be known of it where the other application reads nothing. */
  async #hasSaidAll(other: EndingApplication): Promise<void> {
    if (this.#other.reads) await Promise.race([other.sawEnding, this.closed]);
    else if (this.#canSayAll)
      await Promise.race([new Promise((resolve) => this.#socket.once('finish', resolve)), this.closed]);
    else await turn();
  }

  /** Otherwise its bytes do not all leave, and then there is no FIN. */
  get #canSayAll(): boolean {
    return this.#other.reads || this.#plan.bytes < unreadBytes;
  }

  #leave(): void {
    this.sentAll = this.#socket.writableFinished;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    const expected = text.subarray(this.received, this.received + chunk.length);
    assert.ok(chunk.equals(expected), `other bytes than were sent, after ${this.received}`);
    this.received += chunk.length;
    if (this.received === this.#other.bytes) this.#onWhole();
  }
}
