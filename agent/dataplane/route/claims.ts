import { precedes } from '../../../shared/routing/registry-view.js';

/**
 * Decides who owns a key that two entries may claim for a moment: a workload's address can appear at its new owner before
 * the old one is removed. The first by name wins, in whatever order they arrive. When it is removed, the next one wins.
 */
export class Claims<T extends { readonly namespace: string; readonly name: string }> {
  readonly #claims = new Map<string, T[]>();

  get(key: string): T | undefined {
    return this.#claims.get(key)?.[0];
  }

  add(key: string, holder: T): void {
    const holders = this.#claims.get(key);
    if (holders === undefined) {
      this.#claims.set(key, [holder]);
      return;
    }
    const at = holders.findIndex((other) => precedes(holder, other));
    holders.splice(at < 0 ? holders.length : at, 0, holder);
  }

  remove(key: string, holder: T): void {
    const holders = this.#claims.get(key);
    const at = holders?.lastIndexOf(holder) ?? -1;
    if (holders === undefined || at < 0) return;
    holders.splice(at, 1);
    if (holders.length === 0) this.#claims.delete(key);
  }

  clear(): void {
    this.#claims.clear();
  }
}
