import { desk, ioCalls, mostTlsBytes, startReactor, type IoCalls } from '../../native/io-calls.js';
import { WaitingBlock } from '../sockets/waiting-block.js';
import { TimerWheel } from './timer-wheel.js';

/** What a handle belongs to. */
export interface Watched {
  readonly handle: number;
  /** Events of epoll. Only notes what is ready, and queues itself where that is work. */
  onEvents(events: number): void;
}

/** Work of one connection. It stands in one of the two queues at a time. */
export interface Turnable {
  /** The reactor's: whether it waits for its turn. */
  isQueued: boolean;
  /** Does one quantum, and queues itself again where there is more. */
  onTurn(): void;
}

/** What has output that is made at the end of a round, so that one write has all of it. */
export interface Outputting {
  /** The reactor's: whether it waits for the end of a round. */
  isOutputQueued: boolean;
  onOutput(): void;
}

/** Where sockets read to; no longer than the turn of the one that reads. */
export const scratchAt = desk.bytes;
const scratchBytes = 655_360;
/** Where a TLS session copies what it writes, no longer than the call: also while what was read is being handled. */
export const outputAt = scratchAt + scratchBytes;
/** What waits for sockets lies in blocks that they can be written from: 4 MiB, of which the kernel gives what is touched. */
const blocksAt = outputAt + mostTlsBytes;
const memoryBytes = blocksAt + 64 * WaitingBlock.bytes;

/** After this many rounds, or this long, other work of the thread has its turn. */
const mostRounds = 16;
const mostTurnMs = 2;
/** After this many events in a round others have mostly come meanwhile. After fewer, libuv asks for all that it watches. */
const busyEvents = 8;
const slotMask = 2 ** 19 - 1;
const tickMs = 100;

/**
 * Runs the sockets of a thread, which has one of it. In each round it first hands out all events, then gives each connection that
 * has work one quantum, so that none waits for more than one quantum of each of the others. Then one handshake makes a step,
 * which may take the time of a private key, and what was made to be sent meanwhile goes out.
 *
 * What one connection throws is an uncaught exception of the thread, after which the others go on: their events come only once.
 */
export class Reactor {
  readonly calls: IoCalls = ioCalls();
  readonly memory: Buffer;
  /** What {@link memory} is a view of. To ask a view for it is not cheap. */
  readonly #buffer: ArrayBuffer;
  readonly words: Int32Array;
  readonly timers = new TimerWheel({ tickMs, slots: 512, nowMs: performance.now() });
  /** By slot of the handle. */
  readonly #watched: (Watched | undefined)[] = [];
  #queue: Turnable[] = [];
  #running: Turnable[] = [];
  readonly #handshakes = new Fifo<Turnable>();
  #outputs: Outputting[] = [];
  #ending: Outputting[] = [];
  #isTurning = false;
  #later: NodeJS.Immediate | null = null;
  #tick: NodeJS.Timeout | null = null;

  private constructor() {
    const memory = startReactor(memoryBytes, (count) => this.#turn(count));
    this.memory = Buffer.from(memory);
    this.#buffer = memory;
    this.words = new Int32Array(memory);
    WaitingBlock.keepIn(this.memory.subarray(blocksAt));
  }

  /** Starts it at the first call. Throws `NATIVE_ENGINE`. */
  static ofThread(): Reactor {
    return (only ??= new Reactor());
  }

  /** Whether the bytes lie in {@link memory}, from where they are written without a copy. */
  holds(bytes: Buffer): boolean {
    return bytes.byteOffset >= scratchAt && bytes.buffer === this.#buffer;
  }

  /** The `at`th word of the status of the last call. */
  status(at: 0 | 1 | 2 | 3): number {
    return this.words[desk.status / 4 + at] ?? 0;
  }

  /** Its events go to `watched` from now on. Returns a negated errno, or 0. */
  watch(watched: Watched, events: number): number {
    this.#watched[watched.handle & slotMask] = watched;
    return this.calls.ioWatch(watched.handle, events);
  }

  /** Before its handle is closed. */
  forget(watched: Watched): void {
    const slot = watched.handle & slotMask;
    if (this.#watched[slot] === watched) this.#watched[slot] = undefined;
  }

  /** Gives it a turn, in this round or the next one. */
  queue(work: Turnable): void {
    if (work.isQueued) return;
    work.isQueued = true;
    this.#queue.push(work);
    this.#goOnLater();
  }

  /** As {@link queue}, for a step of a handshake: one of them has its turn in each round. */
  queueHandshake(work: Turnable): void {
    if (work.isQueued) return;
    work.isQueued = true;
    this.#handshakes.push(work);
    this.#goOnLater();
  }

  /** Its `onOutput` comes at the end of this round; of a later one where that is under way. */
  queueOutput(work: Outputting): void {
    if (work.isOutputQueued) return;
    work.isOutputQueued = true;
    this.#outputs.push(work);
    this.#goOnLater();
  }

  /** Call after setting a timer of {@link timers}: while it has any, a timer of Node advances it. */
  keepTime(): void {
    this.#tick ??= setInterval(() => {
      this.timers.advance(performance.now());
      if (this.timers.size > 0 || this.#tick === null) return;
      clearInterval(this.#tick);
      this.#tick = null;
    }, tickMs).unref();
  }

  /** Outside of a turn nothing else would come. */
  #goOnLater(): void {
    if (!this.#isTurning)
      this.#later ??= setImmediate(() => {
        this.#later = null;
        this.#turn(this.calls.ioPoll());
      });
  }

  #turn(first: number): void {
    this.#isTurning = true;
    let untilMs = 0;
    let count = first;
    for (let round = 1; ; round += 1) {
      for (let at = 0; at < 2 * count; at += 2) this.#handOut(this.words[at] ?? 0, this.words[at + 1] ?? 0);
      this.#runQueue();
      const handshake = this.#handshakes.shift();
      if (handshake !== undefined) this.#run(handshake);
      this.#putOut();
      // Events come once: what is polled is handed out.
      if (count < busyEvents && this.#isIdle) break;
      if (round === mostRounds) break;
      // The first round is short: most turns end with it, and ask for no time.
      const nowMs = performance.now();
      if (round === 1) untilMs = nowMs + mostTurnMs;
      else if (nowMs >= untilMs) break;
      count = this.calls.ioPoll();
      if (count === 0 && this.#isIdle) break;
    }
    this.#isTurning = false;
    if (this.#later !== null) clearImmediate(this.#later);
    this.#later = null;
    if (!this.#isIdle || this.#outputs.length > 0) this.#goOnLater();
  }

  get #isIdle(): boolean {
    return this.#queue.length === 0 && this.#handshakes.isEmpty;
  }

  #runQueue(): void {
    [this.#queue, this.#running] = [this.#running, this.#queue];
    for (const work of this.#running) this.#run(work);
    this.#running.length = 0;
  }

  #putOut(): void {
    [this.#outputs, this.#ending] = [this.#ending, this.#outputs];
    for (const work of this.#ending) {
      work.isOutputQueued = false;
      try {
        work.onOutput();
      } catch (error) {
        throwLater(error);
      }
    }
    this.#ending.length = 0;
  }

  #handOut(handle: number, events: number): void {
    const watched = this.#watched[handle & slotMask];
    if (watched?.handle !== handle) return;
    try {
      watched.onEvents(events);
    } catch (error) {
      throwLater(error);
    }
  }

  #run(work: Turnable): void {
    work.isQueued = false;
    try {
      work.onTurn();
    } catch (error) {
      throwLater(error);
    }
  }
}

/** A queue that may be long: taking the first of an array moves all others. */
class Fifo<T> {
  #in: T[] = [];
  #out: T[] = [];

  get isEmpty(): boolean {
    return this.#in.length === 0 && this.#out.length === 0;
  }

  push(item: T): void {
    this.#in.push(item);
  }

  shift(): T | undefined {
    if (this.#out.length === 0) [this.#out, this.#in] = [this.#in.reverse(), this.#out];
    return this.#out.pop();
  }
}

function throwLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

let only: Reactor | undefined;
