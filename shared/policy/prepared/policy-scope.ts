import { BoundedCache } from './bounded-cache.js';
import { KeyIndex } from './key-index.js';

type Labels = Readonly<Record<string, string>>;

/** How a kind of policy document chooses its workloads, and what is made of those that choose one. */
export type ScopeKind<P extends object, S> = {
  /** Labels as {@link labelKey} writes them of which a workload needs one; null: none in particular. */
  readonly keysOf: (policy: P) => readonly string[] | null;
  readonly selects: (policy: P, labels: Labels) => boolean;
  readonly select: (policies: readonly P[]) => S;
};

/** Different sets of policies of one namespace that are kept; a namespace has few. */
const maxSelections = 1024;

/**
 * The policies of one namespace, and which of them are about a workload. The answer is kept for the labels as the
 * registry holds them, and workloads that the same policies are about share one. Outlives revisions that leave the
 * policies of the namespace as they are.
 */
export class PolicyScope<P extends object, S> {
  readonly policies: readonly P[];
  readonly #kind: ScopeKind<P, S>;
  readonly #index: KeyIndex<P>;
  readonly #byLabels = new WeakMap<Labels, S>();
  readonly #bySelection = new BoundedCache<string, S>({ maxEntries: maxSelections });
  readonly #positions: ReadonlyMap<P, number>;

  constructor({ policies, kind }: { readonly policies: readonly P[]; readonly kind: ScopeKind<P, S> }) {
    this.policies = policies;
    this.#kind = kind;
    this.#index = new KeyIndex({ items: policies, keysOf: kind.keysOf });
    this.#positions = new Map(policies.map((policy, position) => [policy, position]));
  }

  about(labels: Labels): S {
    const known = this.#byLabels.get(labels);
    if (known !== undefined) return known;
    const keys = Object.entries(labels).map(([name, value]) => labelKey(name, value));
    const selected = this.#index.all(keys, (policy) => this.#kind.selects(policy, labels));
    const signature = selected.map((policy) => this.#positions.get(policy)).join(' ');
    const selection = this.#bySelection.get(signature) ?? this.#kind.select(selected);
    this.#bySelection.set(signature, selection);
    this.#byLabels.set(labels, selection);
    return selection;
  }
}

export function labelKey(name: string, value: string): string {
  return `${name}=${value}`;
}
