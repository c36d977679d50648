import { pinsOf } from '../../resources/match/peer-fields.js';
import type { CompiledRule } from '../../../shared/policy/snapshot.js';
import { destinationNamespaces } from './destination-namespaces.js';

/** Thousands of rules are compared only within a destination namespace: two that pin different ones never meet. */
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

  /** Positions, rising; the rule's own may be among them. */
  mayOverlap(position: number): readonly number[] {
    const namespaces = this.#namespaces[position];
    if (namespaces === null || namespaces === undefined) return this.#positions;
    return this.#within(namespaces);
  }

  /**
   * The rules that may be about every destination that this rule is about: lists of positions, each rising; a position
   * may be in several.
   */
  mayCover({ to }: Pick<CompiledRule, 'to'>): (readonly number[])[] {
    const namespaces = new Set<string>();
    for (const pinned of to.flatMap(pinsOf)) {
      // Nobody is in an empty list, and everything covers nobody.
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
