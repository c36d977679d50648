import { pinsOf } from '../../resources/match/peer-fields.js';
import type { CompiledRule } from '../../../shared/policy/snapshot.js';

/** Limits comparisons among thousands of rules to rules that can share a destination namespace. */
export class NamespaceIndex {
  readonly #positions: readonly number[];
  readonly #namespaces: readonly (ReadonlySet<string> | null)[];
  readonly #byNamespace = new Map<string, number[]>();
  readonly #anywhere: number[] = [];

  constructor({ rules }: { rules: readonly Pick<CompiledRule, 'to'>[] }) {
    this.#positions = [...rules.keys()];
    this.#namespaces = rules.map((rule) => destinationNamespaces(rule));
    for (const [position, namespaces] of this.#namespaces.entries()) {
      if (namespaces === null) this.#anywhere.push(position);
      for (const namespace of namespaces ?? []) {
        const positions = this.#byNamespace.get(namespace);
        if (positions === undefined) this.#byNamespace.set(namespace, [position]);
        else positions.push(position);
      }
    }
  }

  /** Positions in ascending order; they may include the rule itself. */
  mayOverlap(position: number): readonly number[] {
    const namespaces = this.#namespaces[position];
    if (namespaces === null || namespaces === undefined) return this.#positions;
    return this.#within(namespaces);
  }

  /**
   * The rules that may match every destination of this rule, as lists of positions in ascending order. A position may
   * be in several lists.
   */
  mayCover({ to }: Pick<CompiledRule, 'to'>): (readonly number[])[] {
    const namespaces = new Set<string>();
    for (const pinned of to.flatMap(pinsOf)) {
      // An empty list matches no party, and every rule covers that.
      if (pinned.length === 0) return [this.#positions];
      for (const namespace of pinned) namespaces.add(namespace);
    }
    return [this.#anywhere, ...[...namespaces].map((namespace) => this.#byNamespace.get(namespace) ?? [])];
  }

  #within(namespaces: ReadonlySet<string>): number[] {
    const found = new Set(this.#anywhere);
    for (const namespace of namespaces) for (const other of this.#byNamespace.get(namespace) ?? []) found.add(other);
    return [...found].sort((a, b) => a - b);
  }
}

/** The namespaces that a destination must be in for the rule to match; null: any namespace, or none. */
export function destinationNamespaces({ to }: Pick<CompiledRule, 'to'>): ReadonlySet<string> | null {
  const namespaces = new Set<string>();
  for (const match of to) {
    const [pinned] = pinsOf(match);
    if (pinned === undefined) return null;
    for (const namespace of pinned) namespaces.add(namespace);
  }
  return to.length === 0 ? null : namespaces;
}
