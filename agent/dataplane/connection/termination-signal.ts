import type { ConnectionCut } from './connection-cut.js';

const nobody: readonly (() => void)[] = [];

/**
 * Ends one connection, in whatever step it is: what an `AbortSignal` is elsewhere, which costs an event target, its maps
 * and a dispatch for each connection. Listeners are called once, in the order in which they came.
 */
export class TerminationSignal {
  #cut: ConnectionCut | null = null;
  #listeners = nobody;

  /** Why the connection has to end; null while it may go on. */
  get cut(): ConnectionCut | null {
    return this.#cut;
  }

  /** The first cut counts. */
  raise(cut: ConnectionCut): void {
    if (this.#cut !== null) return;
    this.#cut = cut;
    const listeners = this.#listeners;
    this.#listeners = nobody;
    for (const listener of listeners) listener();
  }

  /** Not called for a cut that was there before. */
  onCut(listener: () => void): void {
    this.#listeners = this.#listeners.length === 0 ? [listener] : [...this.#listeners, listener];
  }

  offCut(listener: () => void): void {
    const left = this.#listeners.filter((other) => other !== listener);
    this.#listeners = left.length === 0 ? nobody : left;
  }
}
