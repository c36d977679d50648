import { BoundedCache } from './bounded-cache.js';
import { KeyIndex } from './key-index.js';

type Labels = Readonly<Record<string, string>>;

/** How one kind of policy document selects workloads, and what is derived from those that select one. */
export type ScopeKind<P extends object, S> = {
  /** Keys made by {@link labelKey}; a workload needs at least one of these labels. Null: no particular label. */
  readonly keysOf: (policy: P) => readonly string[] | null;
  readonly selects: (policy: P, labels: Labels) => boolean;
  readonly select: (policies: readonly P[]) => S;
};

/** Limit on cached sets of policies per namespace; a namespace has few distinct sets. */
const maxSelections = 1024;

/**
 * The policies of one namespace, and which of them select a workload. Answers are cached by the registry's label
 * objects, and workloads selected by the same policies share one answer. Survives revisions that leave the namespace's
 * policies unchanged.
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
