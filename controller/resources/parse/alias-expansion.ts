import { isAlias, isCollection, isMap, isPair, isScalar, isSeq, type Document } from 'yaml';

/**
 * The offset of the alias with which a document grows beyond `maxLength` characters; undefined: of none. An alias
 * counts with the length of what it stands for, text too: a limit on the text alone says nothing about what is stored in
 * the end.
 */
export function findExpansion(document: Document.Parsed, maxLength: number): number | undefined {
  const expansion = new Expansion(maxLength);
  expansion.add(document.contents);
  return expansion.offset;
}

/** Reads each node once, in the order of the text: what an alias stands for is before it. */
class Expansion {
  offset: number | undefined;
  readonly #maxLength: number;
  readonly #anchors = new Map<string, object>();
  /** By node with an anchor. Missing: the alias is inside it, which another check refuses. */
  readonly #lengths = new Map<object, number>();
  #total = 0;

  constructor(maxLength: number) {
    this.#maxLength = maxLength;
  }

  add(node: unknown): void {
    if (isAlias(node)) {
      this.#total += this.#lengths.get(this.#anchors.get(node.source) ?? node) ?? 0;
      if (this.#total > this.#maxLength) this.offset ??= node.range?.[0];
      return;
    }
    const before = this.#total;
    const anchor = isScalar(node) || isCollection(node) ? node.anchor : undefined;
    if (anchor !== undefined) this.#anchors.set(anchor, node as object);
    if (isScalar(node)) this.#total += (node.source ?? '').length;
    if (isMap(node) || isSeq(node)) {
      for (const item of node.items) {
        this.#total++;
        this.add(isPair(item) ? item.key : item);
        if (isPair(item)) this.add(item.value);
      }
    }
    if (anchor !== undefined) this.#lengths.set(node as object, this.#total - before);
  }
}
