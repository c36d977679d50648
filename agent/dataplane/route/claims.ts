/**
 * Who holds a key, when for a moment two may claim it: a workload's address can appear at its new owner before the old
 * one is removed. The latest claim holds; when it goes, the one before holds again.
 */
export class Claims<T> {
  readonly #claims = new Map<string, T[]>();

  get(key: string): T | undefined {
    return this.#claims.get(key)?.at(-1);
  }

  add(key: string, holder: T): void {
    const holders = this.#claims.get(key);
    if (holders === undefined) this.#claims.set(key, [holder]);
    else holders.push(holder);
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
