import type { RuleRef } from '../../../shared/policy/connection.js';
import type { Reason } from '../../../shared/reasons.js';
import type { Ending } from './ending.js';
import type { OwnWaits } from './own-waits.js';

/** Why an open connection has to end: a rule denies it now, its workload left, the agent drains. */
export class ConnectionCut implements Ending {
  readonly reason: Reason;
  readonly rule: RuleRef | null;
  readonly detail: string;

  constructor(init: { readonly reason: Reason; readonly rule?: RuleRef | null; readonly detail?: string }) {
    this.reason = init.reason;
    this.rule = init.rule ?? null;
    this.detail = init.detail ?? '';
  }
}

const noListeners: readonly (() => void)[] = [];

/**
 * Ends one connection, whatever step it is in. It replaces an `AbortSignal`, which costs an event target, its maps and a
 * dispatch for each connection. Listeners are called once, in the order in which they were added.
 */
export class TerminationSignal {
  /** Of an attempt that has a time limit; null: it has none. */
  readonly #waits: OwnWaits | null;
  #cut: ConnectionCut | null = null;
  #listeners = noListeners;

  constructor(waits: OwnWaits | null = null) {
    this.#waits = waits;
  }

  /** Waits for this agent itself and not for the endpoint; see {@link OwnWaits}. */
  async waitsFor<T>(wait: Promise<T>, since?: () => number | null): Promise<T> {
    return await (this.#waits?.during(wait, since) ?? wait);
  }

  /** Null while the connection may go on. */
  get cut(): ConnectionCut | null {
    return this.#cut;
  }

  /** The first cut counts. */
  raise(cut: ConnectionCut): void {
    if (this.#cut !== null) return;
    this.#cut = cut;
    const listeners = this.#listeners;
    this.#listeners = noListeners;
    for (const listener of listeners) listener();
  }

  /** Not called for a cut that was raised before. */
  onCut(listener: () => void): void {
    this.#listeners = this.#listeners.length === 0 ? [listener] : [...this.#listeners, listener];
  }

  offCut(listener: () => void): void {
    const left = this.#listeners.filter((other) => other !== listener);
    this.#listeners = left.length === 0 ? noListeners : left;
  }
}

/** Resolves when the connection is cut, at once when it was cut before, and otherwise after `ms`. Never rejects. */
export async function cutWithin(signal: TerminationSignal, ms: number): Promise<void> {
  if (signal.cut !== null) return;
  await new Promise<void>((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.offCut(finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.onCut(finish);
  });
}
