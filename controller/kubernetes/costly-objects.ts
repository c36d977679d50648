import { isDeepStrictEqual } from 'node:util';
import type { Problem } from '../resources/kinds/problem.js';
import { resourceKey } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { ClusterOutcome } from '../store/cluster-change.js';

/** An object that makes the checks take too long is tried again after this time where it does not change. */
const unchangedMs = 600_000;
/** Where it changes, after this time, which doubles with each time that it takes too long again. */
const changedMs = 10_000;

type Costly = {
  readonly resource: Resource;
  readonly problems: readonly Problem[];
  readonly atMs: number;
  /** How often it took too long, one time after another. */
  readonly times: number;
};

/**
 * Objects that alone made the checks take too long. Each is tried by itself from then on, after all others and one at a time, and
 * the less often the more it took, also where it changes all the time: so it holds up itself, and neither other objects nor
 * changes of people. `elapsedMs`: of a clock that never goes back.
 */
export class CostlyObjects {
  readonly #elapsedMs: () => number;
  readonly #known = new Map<string, Costly>();

  constructor(init: { readonly elapsedMs?: () => number } = {}) {
    this.#elapsedMs = init.elapsedMs ?? (() => performance.now());
  }

  has(key: string): boolean {
    return this.#known.has(key);
  }

  /** What was wrong with each, by its key. */
  get problems(): ReadonlyMap<string, readonly Problem[]> {
    return new Map([...this.#known].map(([key, { problems }]) => [key, problems]));
  }

  /** The one of `puts` whose turn it is; null: none has to be tried now. */
  due(puts: readonly Resource[]): { readonly resource: Resource; readonly isChanged: boolean } | null {
    const due = puts.flatMap((resource) => {
      const known = this.#known.get(resourceKey(resource));
      if (known === undefined) return [];
      const isChanged = !isDeepStrictEqual(known.resource, resource);
      const pauseMs = isChanged ? Math.min(unchangedMs, changedMs * 2 ** Math.min(known.times - 1, 16)) : unchangedMs;
      return this.#elapsedMs() < known.atMs + pauseMs ? [] : [{ resource, isChanged, atMs: known.atMs }];
    });
    const [first] = due.sort((a, b) => a.atMs - b.atMs);
    return first === undefined ? null : { resource: first.resource, isChanged: first.isChanged };
  }

  /** What came of objects that were tried. */
  remember(tried: readonly Resource[], { refused, costly }: Pick<ClusterOutcome, 'refused' | 'costly'>): void {
    for (const resource of tried) {
      const key = resourceKey(resource);
      const times = (this.#known.get(key)?.times ?? 0) + 1;
      if (!costly.has(key)) this.#known.delete(key);
      else this.#known.set(key, { resource, problems: refused.get(key) ?? [], atMs: this.#elapsedMs(), times });
    }
  }

  /** Forgets those that are not among `present`. */
  forget(present: ReadonlySet<string>): void {
    for (const key of this.#known.keys()) if (!present.has(key)) this.#known.delete(key);
  }
}
