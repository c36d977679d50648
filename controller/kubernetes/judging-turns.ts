import { admissionBusy, type Asker } from './admission.js';

/** Questions that wait or are worked on. An object has megabytes at most. */
const maxPlaces = 32;
/** A judgement that takes longer does not keep the next one waiting. */
const slowMs = 500;
/** Judgements that are worked on at once: they share a processor with all else that a controller does. */
const maxRunning = 3;
/** Of them, those of accounts that used more than {@link slowMs} a moment ago. */
const maxRunningOfHeavy = 2;
/** What an account has used of the time counts half after this. */
const halfLifeMs = 10_000;
/** Accounts and namespaces whose use is remembered: the half that used most, when there are more. */
const maxRemembered = 1024;

/** Of one question, from when it is read to when it is answered; dispose of it then. */
export interface Place extends Disposable {
  /** Aborted when the place was given to one who has fewer. */
  readonly signal: AbortSignal;
  /** Runs `work` when it is its turn. Where `signal` aborts before, it is not begun, and this rejects with the reason. */
  turn<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T>;
}

type Held = { readonly asker: Asker; readonly taken: AbortController };
type Running = { readonly account: string; isSlow: boolean };
type Waiting = { readonly asker: Asker; readonly begin: (running: Running) => void };

/**
 * Whose question about an object is judged next. An account has one judgement at a time. Of those that wait, the account is next
 * that used least of the time a moment ago, then the namespace that did. Where all places are taken, one who has fewer gets
 * that of the one who has most, whose newest question is given up. So who floods holds up itself: another one waits for one
 * short judgement of each other account at most.
 */
export class JudgingTurns {
  readonly #elapsedMs: () => number;
  readonly #held = new Set<Held>();
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiting>();
  readonly #running = new Set<Running>();
  #used = new Map<string, { readonly ms: number; readonly atMs: number }>();

  /** `elapsedMs`: of a clock that never goes back. */
  constructor(init: { readonly elapsedMs?: () => number } = {}) {
    this.#elapsedMs = init.elapsedMs ?? (() => performance.now());
  }

  /** A place for a question. Errors: `ADMISSION_BUSY`, where all are taken and none of the others has more of them. */
  enter(asker: Asker): Place {
    if (this.#held.size >= maxPlaces) {
      const other = this.#toGive(asker);
      if (other === undefined) throw admissionBusy();
      this.#held.delete(other);
      other.taken.abort();
    }
    const held: Held = { asker, taken: new AbortController() };
    this.#held.add(held);
    return {
      signal: held.taken.signal,
      turn: (work, signal) => this.#turn(asker, work, signal),
      [Symbol.dispose]: () => void this.#held.delete(held),
    };
  }

  async #turn<T>(asker: Asker, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const running = await this.#begun(asker, signal);
    const startedAtMs = this.#elapsedMs();
    const slow = setTimeout(() => {
      running.isSlow = true;
      this.#next();
    }, slowMs);
    try {
      return await work();
    } finally {
      clearTimeout(slow);
      this.#running.delete(running);
      this.#use(asker, this.#elapsedMs() - startedAtMs);
      this.#next();
    }
  }

  #begun(asker: Asker, signal: AbortSignal): Promise<Running> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiting.delete(waiting);
        reject(signal.reason as Error);
      };
      const waiting: Waiting = {
        asker,
        begin: (running) => {
          signal.removeEventListener('abort', giveUp);
          resolve(running);
        },
      };
      if (signal.aborted) return giveUp();
      signal.addEventListener('abort', giveUp, { once: true });
      this.#waiting.add(waiting);
      this.#next();
    });
  }

  /** Begins what may begin. */
  #next(): void {
    for (;;) {
      const running = [...this.#running];
      if (running.length >= maxRunning || running.some(({ isSlow }) => !isSlow)) return;
      const accounts = new Set(running.map(({ account }) => account));
      const [next] = [...this.#waiting]
        .filter(({ asker: { account } }) => !accounts.has(account))
        .filter(({ asker }) => running.length < maxRunningOfHeavy || this.#usedMs(accountKey(asker)) <= slowMs)
        // Stable: of equals, the one that came first.
        .sort((a, b) => this.#compare(a.asker, b.asker));
      if (next === undefined) return;
      this.#waiting.delete(next);
      const begun = { account: next.asker.account, isSlow: false };
      this.#running.add(begun);
      next.begin(begun);
    }
  }

  #compare(a: Asker, b: Asker): number {
    const byAccount = this.#usedMs(accountKey(a)) - this.#usedMs(accountKey(b));
    return byAccount === 0 ? this.#usedMs(namespaceKey(a)) - this.#usedMs(namespaceKey(b)) : byAccount;
  }

  #usedMs(key: string): number {
    const { ms, atMs } = this.#used.get(key) ?? { ms: 0, atMs: 0 };
    return ms === 0 ? 0 : ms * 2 ** ((atMs - this.#elapsedMs()) / halfLifeMs);
  }

  #use(asker: Asker, ms: number): void {
    const atMs = this.#elapsedMs();
    for (const key of [accountKey(asker), namespaceKey(asker)]) {
      this.#used.set(key, { ms: this.#usedMs(key) + ms, atMs });
    }
    if (this.#used.size <= maxRemembered) return;
    const most = [...this.#used].sort(([a], [b]) => this.#usedMs(b) - this.#usedMs(a));
    this.#used = new Map(most.slice(0, maxRemembered / 2));
  }

  /** The place that goes to another asker; undefined: none has more than this one would have. */
  #toGive({ account, namespace }: Asker): Held | undefined {
    const all = [...this.#held];
    const own = all.filter(({ asker }) => asker.account === account);
    const most = largest(all, ({ asker }) => asker.account);
    if (most.length > own.length + 1) return largest(most, ({ asker }) => asker.namespace).at(-1);
    const ownThere = own.filter(({ asker }) => asker.namespace === namespace);
    const mostThere = largest(own, ({ asker }) => asker.namespace);
    return mostThere.length > ownThere.length + 1 ? mostThere.at(-1) : undefined;
  }
}

function accountKey({ account }: Asker): string {
  return JSON.stringify([account]);
}

function namespaceKey({ account, namespace }: Asker): string {
  return JSON.stringify([account, namespace]);
}

/** The largest group of these, in their order. */
function largest<T>(items: readonly T[], groupOf: (item: T) => string): readonly T[] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(groupOf(item)) ?? [];
    groups.set(groupOf(item), [...group, item]);
  }
  return [...groups.values()].reduce<readonly T[]>((most, group) => (group.length > most.length ? group : most), []);
}
