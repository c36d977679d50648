/** How many of one run a worker gets before another may get the next ones, at the beginning and at most. */
const leastBlock = 2;
const greatestBlock = 256;
/**
 * How long a run waits for a change of its worker while none of its connections opens: round trips within a data centre, the
 * handshake of a first tunnel. A connection that hangs while it is opened, or a destination far away, holds the next ones for
 * this time. Then they follow it in the same worker, twice as many after each wait.
 */
const longestSilenceMs = 100;
/** How long a run waits for changes in all; a long run a part of its duration more. */
const longestWaitMs = 1000;
const longestWaitPart = 0.05;
/** With less than this left it does not wait, and keeps its worker. */
const leastWaitMs = 5;

/** Opens a connection at a worker; {@link OpeningOrder.opened} follows. */
type Open = (worker: number) => void;

/** Connections of one source to one destination, each of which began before the ones before it were open. */
type Run = {
  readonly slot: number;
  worker: number;
  /** Given to the worker and not open yet. */
  opening: number;
  given: number;
  /** How many more the worker gets in this block. */
  left: number;
  waiting: Open[];
  readonly startedAtMs: number;
  /** How long it waited before, and since when it waits now. */
  waitedMs: number;
  waitsSinceMs: number;
  timer: NodeJS.Timeout | undefined;
};

/**
 * Chooses the worker that opens each connection, so that connections of one source to one destination are opened in the
 * order in which they were accepted. One worker opens its connections in order; two do not. So while one of a source's
 * connections to a destination is not open yet, the next ones go to the same worker. After a block of them the next block
 * may go to another worker, and waits until the others are open.
 *
 * A connection that no other one of its kind precedes is free: it stays here, unless this worker has more connections of
 * the workload than another.
 */
export class OpeningOrder {
  readonly #own: number;
  readonly #others: (slot: number) => Iterable<number>;
  readonly #load: (worker: number, slot: number) => number;
  readonly #runs = new Map<string, Run>();
  /** By worker: given to it and not open yet. Its load tells of them only when it has begun with them. */
  readonly #opening = new Map<number, number>();
  readonly #nowMs: () => number;

  /**
   * `others`: the workers that may get connections of the workload in the slot. `load`: connections that the worker has of
   * it. `nowMs`: of a clock that never goes back.
   */
  constructor(init: {
    readonly own: number;
    readonly others: (slot: number) => Iterable<number>;
    readonly load: (worker: number, slot: number) => number;
    readonly nowMs?: () => number;
  }) {
    this.#nowMs = init.nowMs ?? (() => performance.now());
    this.#own = init.own;
    this.#others = init.others;
    this.#load = init.load;
  }

  /** Calls `open` now or later, in the order of the calls with the same `key`, which stands for source and destination. */
  take(key: string, slot: number, open: Open): void {
    let run = this.#runs.get(key);
    if (run === undefined) {
      run = this.#newRun(slot);
      this.#runs.set(key, run);
    }
    run.waiting.push(open);
    if (run.waiting.length === 1) this.#advance(run);
  }

  /** A connection of this key has reached its destination, or never will. */
  opened(key: string): void {
    const run = this.#runs.get(key);
    if (run === undefined) return;
    this.#count(run, -1);
    if (run.opening <= 0) this.#allOpen(key, run);
    else if (run.timer !== undefined) this.#waitAgain(run);
  }

  /** The worker has ended, and with it what it was opening. */
  lost(worker: number): void {
    for (const [key, run] of this.#runs) if (run.worker === worker) this.#allOpen(key, run);
  }

  /** Everything that waits is opened here, now. */
  openAll(): void {
    for (const [key, run] of this.#runs) {
      clearTimeout(run.timer);
      this.#runs.delete(key);
      for (const open of run.waiting) open(this.#own);
    }
  }

  #newRun(slot: number): Run {
    const now = this.#nowMs();
    const times = { startedAtMs: now, waitedMs: 0, waitsSinceMs: now, timer: undefined };
    const run: Run = { slot, worker: this.#own, opening: 0, given: 0, left: leastBlock, waiting: [], ...times };
    run.worker = this.#choose(run);
    return run;
  }

  #allOpen(key: string, run: Run): void {
    this.#endWait(run);
    this.#count(run, -run.opening);
    if (run.waiting.length === 0) {
      this.#runs.delete(key);
      return;
    }
    run.worker = this.#choose(run);
    run.left = this.#shareOf(run);
    this.#advance(run);
  }

  /** Few changes for many that wait: each worker gets its part of them at once. */
  #shareOf({ slot, given, waiting }: Run): number {
    const workers = 1 + [...this.#others(slot)].length;
    return Math.max(blockAfter(given), Math.ceil(waiting.length / workers));
  }

  /** Gives the worker what waits, until another worker is to get the next block. */
  #advance(run: Run): void {
    const { waiting } = run;
    let at = 0;
    while (at < waiting.length && this.#mayGoOn(run)) {
      this.#count(run, 1);
      run.given += 1;
      run.left -= 1;
      waiting[at++]!(run.worker);
    }
    run.waiting = at === waiting.length ? [] : waiting.slice(at);
    if (run.waiting.length > 0) this.#waitForChange(run);
  }

  #mayGoOn(run: Run): boolean {
    if (run.left > 0) return true;
    if (run.timer !== undefined) return false;
    if (this.#choose(run) !== run.worker && this.#longestWaitOf(run) > leastWaitMs) return false;
    run.left = blockAfter(run.given);
    return true;
  }

  #waitForChange(run: Run): void {
    if (run.timer !== undefined) return;
    run.waitsSinceMs = this.#nowMs();
    run.timer = setTimeout(
      () => {
        this.#endWait(run);
        run.left = Math.max(blockAfter(run.given), run.given);
        this.#advance(run);
      },
      Math.min(longestSilenceMs, this.#longestWaitOf(run)),
    );
  }

  /** One of those that it waits for is open. */
  #waitAgain(run: Run): void {
    this.#endWait(run);
    this.#waitForChange(run);
  }

  #endWait(run: Run): void {
    if (run.timer === undefined) return;
    clearTimeout(run.timer);
    run.timer = undefined;
    run.waitedMs += this.#nowMs() - run.waitsSinceMs;
  }

  #count(run: Run, more: number): void {
    run.opening += more;
    this.#opening.set(run.worker, (this.#opening.get(run.worker) ?? 0) + more);
  }

  #longestWaitOf({ startedAtMs, waitedMs }: Run): number {
    return Math.max(0, longestWaitMs + longestWaitPart * (this.#nowMs() - startedAtMs) - waitedMs);
  }

  /**
   * The worker with the least load. A run keeps its worker for a small difference: where most of what was given has ended
   * again, connections are short, and a change would not be worth it.
   */
  #choose(run: Run): number {
    let best = this.#own;
    let least = this.#loadFor(run, this.#own) - run.given / 8;
    for (const worker of this.#others(run.slot)) {
      const load = this.#loadFor(run, worker) - (worker === run.worker ? run.given / 8 : 0);
      if (load >= least) continue;
      best = worker;
      least = load;
    }
    return best;
  }

  /** A worker has not counted yet what it was given a moment ago. */
  #loadFor(run: Run, worker: number): number {
    const ofRun = worker === run.worker ? run.opening : 0;
    const ofOthers = (this.#opening.get(worker) ?? 0) - ofRun;
    return Math.max(this.#load(worker, run.slot), ofRun) + ofOthers;
  }
}

/** Grows with the run, so that a long run changes its worker a few times only. */
function blockAfter(given: number): number {
  return Math.min(greatestBlock, Math.max(leastBlock, given >> 2));
}
