import type { Clock } from '../policy/connection.js';
import type { RegistryEntry } from '../wire/registry.js';
import { cidrRegions } from './cidr-regions.js';
import { classifyEnds, type EndClass } from './end-classes.js';
import { regionEnd, workloadEnd, type MeshEnd } from './mesh-end.js';
import { portVerdicts, type PortVerdict } from './port-verdicts.js';
import type { RuleSet } from './rule-set.js';
import { selectionItems, type SelectionItem } from './selection-items.js';

/** What each of the sets decides between two ends. Pairs that are decided alike share one object. */
export type PairVerdicts = { readonly id: number; readonly bySet: readonly (readonly PortVerdict[])[] };

/** One end as each of the sets knows it: labels and accounts may differ. */
type EndOfSets = readonly MeshEnd[];

/**
 * All pairs of ends of one or several sets of rules, in classes: a mesh of thousands of workloads has few kinds of them.
 * Whatever stands in an answer comes from the one evaluator, asked once for each kind of pair and range of ports.
 */
export class PairClasses {
  readonly sources: readonly EndClass[];
  readonly destinations: readonly EndClass[];
  readonly #sets: readonly RuleSet[];
  readonly #clock: Clock;
  /** The same question has the same answer in every set. */
  readonly #areAlike: boolean;
  readonly #items: readonly SelectionItem[];
  readonly #ends: ReadonlyMap<MeshEnd, EndOfSets>;
  /** By destination class: the items that can matter to it, and at which ports. */
  readonly #itemsOf: ReadonlyMap<EndClass, readonly number[]>;
  readonly #known: TrieNode = { next: new Map(), verdicts: null };
  #count = 0;

  /** Of the workloads, those that every set has take part. */
  constructor({ sets, clock }: { sets: readonly RuleSet[]; clock: Clock }) {
    this.#sets = sets;
    this.#clock = clock;
    const byEnd = endsOfSets(sets);
    this.#ends = new Map(byEnd.map((ends) => [ends[0] as MeshEnd, ends]));
    this.#areAlike = areAlike(sets.map(contextOf)) && byEnd.every(areAlike);
    this.#items = sets.flatMap(({ snapshot }, index) =>
      selectionItems(snapshot, clock).map((item) => this.#ofSet(item, index)),
    );
    const ends = [...this.#ends.keys()];
    this.sources = classifyEnds(
      ends,
      this.#items.map(({ source }) => source),
    );
    this.destinations = classifyEnds(
      ends,
      this.#items.map(({ destination }) => destination),
    );
    this.#itemsOf = new Map(
      this.destinations.map((end) => [end, [...end.holds.keys()].filter((index) => end.holds[index] === true)]),
    );
  }

  /** An item of one set asks about the ends as that set knows them. */
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

  /** Null when the two have no address family in common. */
  verdicts(source: EndClass, destination: EndClass): PairVerdicts | null {
    const pair = representatives(source, destination);
    if (pair === null) return null;
    let node = this.#known;
    const matching: number[] = [];
    for (const index of this.#itemsOf.get(destination) ?? []) {
      if (source.holds[index] !== true) continue;
      matching.push(index);
      let next = node.next.get(index);
      if (next === undefined) node.next.set(index, (next = { next: new Map(), verdicts: null }));
      node = next;
    }
    node.verdicts ??= this.#ask(pair.source, pair.destination, matching);
    return node.verdicts;
  }

  #ask(source: MeshEnd, destination: MeshEnd, matching: readonly number[]): PairVerdicts {
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

/** What selectors depend on beside the end that they are asked about. */
function contextOf({ snapshot: { trustDomain, mesh, namespaces, externals } }: RuleSet): unknown {
  return [trustDomain, mesh.rootNamespace, namespaces, externals];
}

function areAlike(values: readonly unknown[]): boolean {
  if (values.every((value) => value === values[0])) return true;
  const [first, ...others] = values.map((value) => JSON.stringify(value));
  return others.every((other) => other === first);
}

type TrieNode = { readonly next: Map<number, TrieNode>; verdicts: PairVerdicts | null };

/** Every workload at each of its addresses, and the address space outside by what the CIDRs of the rules cut it into. */
function endsOfSets(sets: readonly RuleSet[]): EndOfSets[] {
  const [first, ...others] = sets.map(({ entries }) => workloadEnds(entries));
  const workloads = [...(first ?? new Map<string, MeshEnd>())].flatMap(([key, end]) => {
    const rest = others.map((ends) => ends.get(key));
    return rest.every((other) => other !== undefined) ? [[end, ...rest]] : [];
  });
  const outside = cidrRegions(sets.map(({ snapshot }) => snapshot)).map((region) => {
    const end = regionEnd(region, region.name);
    return sets.map(() => end);
  });
  return [...workloads, ...outside];
}

function workloadEnds(entries: readonly RegistryEntry[]): Map<string, MeshEnd> {
  const ends = new Map<string, MeshEnd>();
  for (const entry of entries) {
    if (entry.kind !== 'workload') continue;
    for (const ip of entry.addresses) ends.set(`${entry.namespace}/${entry.name} ${ip}`, workloadEnd(entry, ip));
  }
  return ends;
}

function representatives(source: EndClass, destination: EndClass): { source: MeshEnd; destination: MeshEnd } | null {
  if (!(source.hasIpv4 && destination.hasIpv4) && !(source.hasIpv6 && destination.hasIpv6)) return null;
  const [from, to] = [source.members[0], destination.members[0]];
  return from === undefined || to === undefined ? null : { source: from, destination: to };
}
