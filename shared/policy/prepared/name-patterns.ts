/**
 * Istio's string matches: exact, `*` (any present value), `prefix*`, `*suffix`. A look-up takes as many steps as the
 * number of patterns has binary digits.
 */
export class NamePatterns {
  readonly #hasWildcard: boolean;
  readonly #exact: ReadonlySet<string>;
  readonly #prefixes: readonly string[];
  /** Backwards. */
  readonly #suffixes: readonly string[];

  constructor({ values }: { readonly values: readonly string[] }) {
    const named = values.filter((value) => value !== '*');
    const suffixes = named.filter((value) => value.startsWith('*'));
    const prefixes = named.filter((value) => !value.startsWith('*') && value.endsWith('*'));
    this.#hasWildcard = named.length < values.length;
    this.#exact = new Set(named.filter((value) => !value.startsWith('*') && !value.endsWith('*')));
    this.#prefixes = shortest(prefixes.map((value) => value.slice(0, -1)));
    this.#suffixes = shortest(suffixes.map((value) => backwards(value.slice(1))));
  }

  /** Null: the name is not known, which nothing matches. */
  has(name: string | null): boolean {
    if (name === null) return false;
    if (this.#hasWildcard || this.#exact.has(name)) return true;
    if (this.#prefixes.length > 0 && hasPrefixOf(this.#prefixes, name)) return true;
    return this.#suffixes.length > 0 && hasPrefixOf(this.#suffixes, backwards(name));
  }

  /** The patterns are names without a wildcard. */
  hasExact(name: string | null): boolean {
    return name !== null && this.#exact.has(name);
  }
}

/** Sorted, without those that begin with another. */
function shortest(prefixes: readonly string[]): string[] {
  const kept: string[] = [];
  for (const prefix of [...prefixes].sort()) {
    const last = kept.at(-1);
    if (last === undefined || !prefix.startsWith(last)) kept.push(prefix);
  }
  return kept;
}

/** Of sorted prefixes, none of which begins with another, only the last that is not after the name can be its beginning. */
function hasPrefixOf(prefixes: readonly string[], name: string): boolean {
  let [low, high] = [0, prefixes.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((prefixes[middle] ?? '') <= name) low = middle + 1;
    else high = middle;
  }
  return low > 0 && name.startsWith(prefixes[low - 1] ?? '');
}

function backwards(text: string): string {
  let reversed = '';
  for (let index = text.length - 1; index >= 0; index--) reversed += text.charAt(index);
  return reversed;
}
