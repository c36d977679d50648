import type { Clock } from '../../../shared/policy/connection.js';
import { areOneWorkload } from '../../../shared/policy/own-traffic.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import { cidrRegions } from './cidr-regions.js';
import { classifyEnds, type EndClass } from './party-classes.js';
import { regionParty, workloadParty, type MeshParty } from './mesh-party.js';
import { portVerdicts, type PortVerdict } from './port-verdicts.js';
import type { RuleSet } from './rule-set.js';
import { selectionItems, type SelectionItem } from './selection-items.js';
import { workloadName } from '../../../shared/routing/names.js';

/** The decisions of each set between two ends. Pairs that are decided alike share one object. */
export type PairVerdicts = { readonly id: number; readonly bySet: readonly (readonly PortVerdict[])[] };

/** One end as each set knows it: labels and accounts may differ. */
type EndOfSets = readonly MeshParty[];

/**
 * All pairs of different ends under one or several sets of rules, in classes: a mesh of thousands of workloads has few
 * kinds of pairs. A workload always reaches itself, so nothing is said of it and itself, also where both are in a
 * class. Every answer comes from the evaluator, which is called once for each kind of pair and range of ports.
 */
export class PairClasses {
  readonly sources: readonly EndClass[];
  readonly destinations: readonly EndClass[];
  readonly #sets: readonly RuleSet[];
  readonly #clock: Clock;
  /** Equal questions have equal answers in every set. */
  readonly #areAlike: boolean;
  readonly #items: readonly SelectionItem[];
  readonly #ends: ReadonlyMap<MeshParty, EndOfSets>;
  /** By item: positions of the sources to which it can apply; null: all. */
  readonly #sourcesOf: readonly (readonly number[] | null)[];
  readonly #known: TrieNode = { item: -1, parent: null, next: new Map(), verdicts: null };
  #count = 0;

  /** Only workloads that all sets contain take part. */
  constructor({ sets, clock }: { sets: readonly RuleSet[]; clock: Clock }) {
    this.#sets = sets;
    this.#clock = clock;
    const byEnd = endsOfSets(sets);
    this.#ends = new Map(byEnd.map((ends) => [ends[0] as MeshParty, ends]));
    this.#areAlike = areAlike(sets.map(contextOf)) && byEnd.every(areAlike);
    this.#items = sets.flatMap((set, index) => selectionItems(set, clock).map((item) => this.#ofSet(item, index)));
    const ends = [...this.#ends.keys()];
    this.sources = classifyEnds(
      ends,
      this.#items.map(({ source }) => source),
    );
    this.destinations = classifyEnds(
      ends,
      this.#items.map(({ destination }) => destination),
    );
    this.#sourcesOf = this.#items.map(({ source }, index) => {
      return source === null ? null : positionsOf(this.sources, ({ holds }) => holds[index] === true);
    });
  }

  /** Items of a set select ends as that set knows them. */
  #ofSet(item: SelectionItem, index: number): SelectionItem {
    if (this.#areAlike) return item;
    const ofSet = (selector: SelectionItem['source']): SelectionItem['source'] => {
      if (selector === null) return null;
      const key = `${index} ${selector.key}`;
      const { namespaces } = selector;
      return { key, namespaces, selects: (end) => selector.selects(this.#ends.get(end)?.[index] ?? end) };
    };
    return { ...item, source: ofSet(item.source), destination: ofSet(item.destination) };
  }

  /** Null: the two have no address family in common, or are one workload. {@link verdictsTo} is faster for many sources. */
  verdicts(source: EndClass, destination: EndClass): PairVerdicts | null {
    const pair = representatives(source, destination);
    if (pair === null) return null;
    const items = itemsOf(destination);
    let node = this.#known;
    for (const index of items) if (this.#sourcesOf[index] === null) node = following(node, index);
    for (const index of items) {
      if (this.#sourcesOf[index] !== null && source.holds[index] === true) node = following(node, index);
    }
    return (node.verdicts ??= this.#ask(pair.source, pair.destination, itemsTo(node)));
  }

  /** For each of the {@link sources}, in order; null as for {@link verdicts}. */
  verdictsTo(destination: EndClass): (PairVerdicts | null)[] {
    const items = itemsOf(destination);
    // Items that apply to all sources come first, so that they are visited once and not for each of thousands of
    // sources.
    let start = this.#known;
    for (const index of items) if (this.#sourcesOf[index] === null) start = following(start, index);
    const nodes = this.sources.map(() => start);
    for (const index of items) {
      for (const position of this.#sourcesOf[index] ?? []) nodes[position] = following(nodes[position] ?? start, index);
    }
    return this.sources.map((source, position) => {
      const pair = representatives(source, destination);
      const node = nodes[position];
      if (pair === null || node === undefined) return null;
      return (node.verdicts ??= this.#ask(pair.source, pair.destination, itemsTo(node)));
    });
  }

  #ask(source: MeshParty, destination: MeshParty, matching: readonly number[]): PairVerdicts {
    const all = matching.flatMap((index) => this.#items[index]?.cuts ?? []);
    const cuts = [...new Set(all)].sort((a, b) => a - b);
    const bySet = this.#sets.map(({ snapshot }, index) =>
      portVerdicts({
        snapshot,
        source: this.#ends.get(source)?.[index] ?? source,
        destination: this.#ends.get(destination)?.[index] ?? destination,
        cuts,
        clock: this.#clock,
      }),
    );
    return { id: this.#count++, bySet };
  }
}

/** What selectors depend on in addition to the end itself. */
function contextOf({ snapshot: { trustDomain, mesh, namespaces, externals } }: RuleSet): unknown {
  return [trustDomain, mesh.rootNamespace, namespaces, externals];
}

function areAlike(values: readonly unknown[]): boolean {
  if (values.every((value) => value === values[0])) return true;
  const [first, ...others] = values.map((value) => JSON.stringify(value));
  return others.every((other) => other === first);
}

/** A set of items, as a chain: each adds one item to another set. */
type TrieNode = {
  readonly item: number;
  readonly parent: TrieNode | null;
  readonly next: Map<number, TrieNode>;
  verdicts: PairVerdicts | null;
};

function following(node: TrieNode, item: number): TrieNode {
  let next = node.next.get(item);
  if (next === undefined) node.next.set(item, (next = { item, parent: node, next: new Map(), verdicts: null }));
  return next;
}

function itemsTo(node: TrieNode): number[] {
  const items: number[] = [];
  for (let at: TrieNode | null = node; at.parent !== null; at = at.parent) items.push(at.item);
  return items;
}

/** The items that can apply to it. */
function itemsOf(destination: EndClass): number[] {
  return positionsOf(destination.holds, (isHeld) => isHeld);
}

function positionsOf<T>(values: readonly T[], holds: (value: T) => boolean): number[] {
  return [...values.keys()].filter((position) => holds(values[position] as T));
}

/** Every workload at each of its addresses, and the outside address space as divided by the CIDRs in the rules. */
function endsOfSets(sets: readonly RuleSet[]): EndOfSets[] {
  const [first, ...others] = sets.map(({ entries }) => workloadEnds(entries));
  const workloads = [...(first ?? new Map<string, MeshParty>())].flatMap(([key, end]) => {
    const rest = others.map((ends) => ends.get(key));
    return rest.every((other) => other !== undefined) ? [[end, ...rest]] : [];
  });
  const outside = cidrRegions(sets.map(({ snapshot }) => snapshot)).map((region) => {
    const end = regionParty(region, region.name);
    return sets.map(() => end);
  });
  return [...workloads, ...outside];
}

function workloadEnds(entries: readonly RegistryEntry[]): Map<string, MeshParty> {
  const ends = new Map<string, MeshParty>();
  for (const entry of entries) {
    if (entry.kind !== 'workload') continue;
    for (const ip of entry.addresses) ends.set(`${workloadName(entry)} ${ip}`, workloadParty(entry, ip));
  }
  return ends;
}

function representatives(
  source: EndClass,
  destination: EndClass,
): { source: MeshParty; destination: MeshParty } | null {
  if (!(source.hasIpv4 && destination.hasIpv4) && !(source.hasIpv6 && destination.hasIpv6)) return null;
  const [from] = source.members;
  if (from === undefined) return null;
  const to = destination.members.find((end) => !areOneWorkload(from.party, end.party));
  if (to !== undefined) return { source: from, destination: to };
  // All destinations are the first source: another source, if there is one, has any of them.
  const [own] = destination.members;
  const other = source.members.find((end) => own !== undefined && !areOneWorkload(end.party, own.party));
  return other === undefined || own === undefined ? null : { source: other, destination: own };
}
