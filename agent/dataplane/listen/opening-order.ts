/** How many of one run a worker gets before another may get the next ones, at the beginning and at most. */
const leastBlock = 8;
const greatestBlock = 256;
/** How long a run waits for changes of its worker, in all; a long run a part of its duration more. */
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
  readonly #others: () => Iterable<number>;
  readonly #load: (worker: number, slot: number) => number;
  readonly #runs = new Map<string, Run>();

  /** `load`: connections that the worker has of the workload in the slot. */
  constructor(init: {
    readonly own: number;
    readonly others: () => Iterable<number>;
    readonly load: (worker: number, slot: number) => number;
  }) {
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
    run.opening -= 1;
    if (run.opening <= 0) this.#allOpen(key, run);
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
    const worker = this.#choose(slot, 0);
    const now = performance.now();
    const times = { startedAtMs: now, waitedMs: 0, waitsSinceMs: now, timer: undefined };
    return { slot, worker, opening: 0, given: 0, left: leastBlock, waiting: [], ...times };
  }

  #allOpen(key: string, run: Run): void {
    this.#endWait(run);
    run.opening = 0;
    if (run.waiting.length === 0) {
      this.#runs.delete(key);
      return;
    }
    run.worker = this.#choose(run.slot, run.given);
    run.left = blockAfter(run.given);
    this.#advance(run);
  }

  /** Gives the worker what waits, until another worker is to get the next block. */
  #advance(run: Run): void {
    const { waiting } = run;
    let at = 0;
    while (at < waiting.length && this.#mayGoOn(run)) {
      run.opening += 1;
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
    if (this.#choose(run.slot, run.given) !== run.worker && longestWaitOf(run) > leastWaitMs) return false;
    run.left = blockAfter(run.given);
    return true;
  }

  #waitForChange(run: Run): void {
    if (run.timer !== undefined) return;
    run.waitsSinceMs = performance.now();
    run.timer = setTimeout(() => {
      this.#endWait(run);
      run.left = blockAfter(run.given);
      this.#advance(run);
    }, longestWaitOf(run));
  }

  #endWait(run: Run): void {
    if (run.timer === undefined) return;
    clearTimeout(run.timer);
    run.timer = undefined;
    run.waitedMs += performance.now() - run.waitsSinceMs;
  }

  /** Where most of what was given has ended again, connections are short, and another worker would not be worth it. */
  #choose(slot: number, given: number): number {
    const here = this.#load(this.#own, slot);
    let best = this.#own;
    let least = here - given / 8;
    for (const worker of this.#others()) {
      const load = this.#load(worker, slot);
      if (load >= least) continue;
      best = worker;
      least = load;
    }
    return best;
  }
}

function longestWaitOf({ startedAtMs, waitedMs }: Run): number {
  return Math.max(0, longestWaitMs + longestWaitPart * (performance.now() - startedAtMs) - waitedMs);
}

/** Grows with the run, so that a long run changes its worker a few times only. */
function blockAfter(given: number): number {
  return Math.min(greatestBlock, Math.max(leastBlock, given >> 2));
}
