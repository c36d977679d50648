import type { RetryBudgetPolicy } from '../../../shared/policy/traffic-documents.js';

/** How long new connections count for the budget. */
const windowSeconds = 10;
/** Destinations without a connection for longer than the window are dropped when there are this many. */
const fewestToPrune = 1024;

/** `connections` and `retries`: of each second of the window, at the second modulo its length. */
type Spent = { readonly connections: number[]; readonly retries: number[]; newestSecond: number; inFlight: number };

/** A retry that has begun. Its owner ends it once. */
export interface Retry {
  end(): void;
}

/**
 * How many connections to a destination may try another endpoint, so that retries cannot multiply the load of a service that
 * fails: a share of the new connections of the last ten seconds, and a few at any time. Each rule has a budget of its own:
 * `destination` is the key of a `CountedDestination`. The clock is an argument.
 */
export class RetryBudget {
  readonly #nowMs: () => number;
  readonly #spent = new Map<string, Spent>();
  #pruneAt = fewestToPrune;

  /** `nowMs`: a clock that is never set back. */
  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Number of destinations of which something is known. */
  get size(): number {
    return this.#spent.size;
  }

  /** A new connection to the destination. */
  connects(destination: string): void {
    const spent = this.#of(destination);
    const at = spent.newestSecond % windowSeconds;
    spent.connections[at] = (spent.connections[at] ?? 0) + 1;
  }

  /** One of its connections is to try another endpoint. Null: it may not. The caller owns what is returned. */
  retry(destination: string, { percent, minConcurrency }: RetryBudgetPolicy): Retry | null {
    const spent = this.#of(destination);
    const isWithinShare = (sum(spent.retries) + 1) * 100 <= percent * sum(spent.connections);
    if (!isWithinShare && spent.inFlight >= minConcurrency) return null;
    const at = spent.newestSecond % windowSeconds;
    spent.retries[at] = (spent.retries[at] ?? 0) + 1;
    spent.inFlight += 1;
    let isOver = false;
    return {
      end: () => {
        if (!isOver) spent.inFlight -= 1;
        isOver = true;
      },
    };
  }

  #of(destination: string): Spent {
    const second = Math.floor(this.#nowMs() / 1000);
    const spent = this.#spent.get(destination) ?? this.#begun(destination, second);
    const passed = Math.min(second - spent.newestSecond, windowSeconds);
    for (let step = 1; step <= passed; step++) {
      const at = (spent.newestSecond + step) % windowSeconds;
      spent.connections[at] = 0;
      spent.retries[at] = 0;
    }
    // After a long pause every second of the window was cleared above.
    spent.newestSecond = second;
    return spent;
  }

  #begun(destination: string, second: number): Spent {
    if (this.#spent.size >= this.#pruneAt) this.#prune(second);
    const spent: Spent = {
      connections: Array.from({ length: windowSeconds }, () => 0),
      retries: Array.from({ length: windowSeconds }, () => 0),
      newestSecond: second,
      inFlight: 0,
    };
    this.#spent.set(destination, spent);
    return spent;
  }

  #prune(second: number): void {
    for (const [destination, { newestSecond, inFlight }] of this.#spent) {
      if (inFlight === 0 && second - newestSecond >= windowSeconds) this.#spent.delete(destination);
    }
    this.#pruneAt = Math.max(fewestToPrune, 2 * this.#spent.size);
  }
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}
