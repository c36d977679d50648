import { ipBytes } from '../../address.js';
import type { SpiffeId } from '../../identity.js';
import type { AuthorizationSelection } from './authorization-selection.js';
import { BoundedCache } from './bounded-cache.js';
import { ClusterPolicies, type ClusterSelection } from './cluster-selection.js';
import { ExternalAddresses } from './external-addresses.js';
import type { Party, PartyWorkload, PortNames } from '../connection.js';
import {
  destinationFacts,
  sourceFacts,
  type FactsContext,
  type PartyFacts,
  type SourceFacts,
} from '../connection-facts.js';
import { NamespaceLabels } from './namespace-labels.js';
import type { NetworkIsolation, NetworkSelection } from './network-selection.js';
import type { ScopesOfRevision } from './policy-scopes.js';
import { PreparedParts } from './prepared-parts.js';
import { matchesPorts, type PreparedRule } from './prepared-rule.js';
import { filledWords, type RuleBits } from './rule-bits.js';
import { RuleIndex } from './rule-index.js';
import { tiers, type CompiledExternal, type Snapshot, type Tier } from '../snapshot.js';

/** Everything that depends on the source alone, computed when it is first seen. */
export type SourceView = {
  readonly identity: SpiffeId | null;
  readonly workload: PartyWorkload | null;
  readonly facts: SourceFacts;
  /** Rules whose `from` matches it, by position in {@link PreparedSnapshot.rules}. */
  readonly rules: RuleBits;
  /** The indexes of the non-empty words of `rules`. */
  readonly words: Int32Array;
  /**
   * NetworkPolicies that isolate it for egress, also as the workload it only claims to be, because isolation denies.
   */
  readonly isolation: NetworkIsolation | null;
  /** Cluster policies that select it, also as the workload it only claims to be. */
  readonly cluster: ClusterSelection | null;
};

export type DestinationView = {
  readonly identity: SpiffeId | null;
  /** A ServiceEntry of the root namespace names it on the dialled port. */
  readonly isNamed: boolean;
  readonly workload: PartyWorkload | null;
  readonly facts: PartyFacts;
  readonly rules: RuleBits;
  /** AuthorizationPolicies that select it, those of the root namespace first; neither selection is empty. */
  readonly policies: readonly AuthorizationSelection[];
  /** NetworkPolicies that isolate it for ingress. */
  readonly isolation: NetworkIsolation | null;
  readonly cluster: ClusterSelection | null;
};

/** Approximate memory limit for the cached views of one snapshot, and the maximum number of views. */
const maxViewBytes = 48 * 1024 * 1024;
const maxViews = 16_384;
const maxViewsPerAddress = 4;
const bytesPerViewBesidesRules = 512;

/** A snapshot prepared for evaluation: CIDRs parsed, names in sets, rules indexed. */
export class PreparedSnapshot {
  /** In evaluation order. */
  readonly rules: readonly PreparedRule[];
  /** The positions of each tier, from `start` to just before `end`. */
  readonly ranges: Readonly<Record<Tier, readonly [start: number, end: number]>>;
  /** Instants at which a rule begins or ends, sorted, in milliseconds since 1970. */
  readonly changesMs: readonly number[];
  readonly #parts: PreparedParts;
  readonly #index: RuleIndex;
  readonly #context: FactsContext;
  readonly #externals: ExternalAddresses;
  readonly #rootNamespace: string;
  readonly #authorizations: ScopesOfRevision<AuthorizationSelection>;
  readonly #isolations: ScopesOfRevision<NetworkSelection>;
  readonly #cluster: ClusterPolicies;
  /** By address. An address has more than one view only when it proves different identities over time. */
  readonly #sources: BoundedCache<string, readonly SourceView[]>;
  readonly #destinations: BoundedCache<string, readonly DestinationView[]>;
  readonly #namedAt: BoundedCache<string, readonly CompiledExternal[]>;

  /** `previous`: parts that it shares with this snapshot are not prepared again. It is not modified. */
  constructor({ snapshot, previous }: { readonly snapshot: Snapshot; readonly previous?: PreparedSnapshot }) {
    const { mesh } = snapshot;
    const parts = previous?.reusableParts ?? new PreparedParts();
    this.#parts = parts;
    const segments = parts.segments.of(snapshot.segments ?? []);
    const prepared = snapshot.rules.map((rule) => parts.rule(rule, segments));
    const byTier = tiers.map((tier) => prepared.filter(({ rule }) => rule.tier === tier));
    const [platform, team] = byTier.map(({ length }) => length);
    const [teamStart, baselineStart] = [platform ?? 0, (platform ?? 0) + (team ?? 0)];
    this.rules = byTier.flat();
    this.ranges = {
      platform: [0, teamStart],
      team: [teamStart, baselineStart],
      baseline: [baselineStart, this.rules.length],
    };
    this.changesMs = changesOf(snapshot);
    this.#index = new RuleIndex({ rules: this.rules, parts });
    this.#externals = new ExternalAddresses(snapshot);
    this.#context = {
      trustDomain: snapshot.trustDomain,
      namespaceLabels: new NamespaceLabels(snapshot),
      isNamed: (ip) => this.#externals.namedAt(ip).length > 0,
    };
    this.#rootNamespace = mesh.rootNamespace;
    this.#authorizations = parts.authorizations.of(
      snapshot.authorizationPolicies.map((policy) => parts.policy(policy)),
    );
    this.#isolations = parts.isolations.of(snapshot.networkPolicies.map((policy) => parts.networkPolicy(policy)));
    this.#cluster = new ClusterPolicies({ policies: snapshot.clusterPolicies ?? [] });
    const bytesPerView = this.#index.bytesPerSet + bytesPerViewBesidesRules;
    const maxEntries = Math.max(64, Math.min(maxViews, Math.floor(maxViewBytes / bytesPerView / 2)));
    this.#sources = new BoundedCache({ maxEntries });
    this.#destinations = new BoundedCache({ maxEntries });
    this.#namedAt = new BoundedCache({ maxEntries });
  }

  /** Parts for the next revision to reuse; undefined when too little of them would be used. */
  get reusableParts(): PreparedParts | undefined {
    return this.#parts.isWorn(this.#index.peers) ? undefined : this.#parts;
  }

  source(party: Party): SourceView {
    const known = this.#sources.get(party.ip) ?? [];
    for (const view of known) if (isOf(view, party)) return view;
    const facts = sourceFacts(party, this.#context);
    const seeming = facts.claimedSource ?? facts.source;
    const rules = this.#index.ofSource(facts);
    const view: SourceView = {
      identity: party.identity,
      workload: party.workload,
      facts,
      rules,
      words: filledWords(rules),
      isolation: this.#isolationOf(seeming)?.egress ?? null,
      cluster: this.#cluster.about(seeming),
    };
    this.#sources.set(party.ip, withView(known, view));
    return view;
  }

  destination(party: Party, port: number): DestinationView {
    const isNamed = party.workload === null && this.#isNamed(party, port);
    const known = this.#destinations.get(party.ip) ?? [];
    for (const view of known) if (view.isNamed === isNamed && isOf(view, party)) return view;
    const facts = destinationFacts(party, isNamed, this.#context);
    const view: DestinationView = {
      identity: party.identity,
      isNamed,
      workload: party.workload,
      facts,
      rules: this.#index.ofDestination(facts),
      policies: this.#policiesFor(party.workload),
      isolation: this.#isolationOf(facts)?.ingress ?? null,
      cluster: this.#cluster.about(facts),
    };
    this.#destinations.set(party.ip, withView(known, view));
    return view;
  }

  /** The rules that apply to the port of a destination with these named ports. */
  port(port: number, names: PortNames | null): RuleBits {
    return this.#index.ofPort(port, names);
  }

  #isNamed({ ip }: Party, port: number): boolean {
    let externals = this.#namedAt.get(ip);
    if (externals === undefined) {
      externals = this.#externals.namedAt(ipBytes(ip));
      this.#namedAt.set(ip, externals);
    }
    return externals.some(({ ports }) => matchesPorts(ports, port, null));
  }

  #policiesFor(workload: PartyWorkload | null): AuthorizationSelection[] {
    if (workload === null) return [];
    const { namespace, labels } = workload;
    const namespaces = namespace === this.#rootNamespace ? [namespace] : [this.#rootNamespace, namespace];
    return namespaces.flatMap((name) => {
      const selection = this.#authorizations.get(name)?.about(labels);
      return selection === undefined || selection.isEmpty ? [] : [selection];
    });
  }

  #isolationOf({ namespace, labels }: PartyFacts): NetworkSelection | undefined {
    return namespace === null || labels === null ? undefined : this.#isolations.get(namespace)?.about(labels);
  }
}

function changesOf({ rules }: Snapshot): number[] {
  const instants = new Set<number>();
  for (const { mode, validFromMs, expiresAtMs } of rules) {
    if (mode !== 'enforce') continue;
    if (validFromMs !== null) instants.add(validFromMs);
    if (expiresAtMs !== null) instants.add(expiresAtMs);
  }
  return [...instants].sort((a, b) => a - b);
}

type AnyView = { readonly identity: SpiffeId | null; readonly workload: PartyWorkload | null };

function isOf(view: AnyView, party: Party): boolean {
  return view.identity === party.identity && isSame(view.workload, party.workload);
}

/** Newest first. For an address that keeps changing its identity, old views are dropped. */
function withView<V>(known: readonly V[], view: V): readonly V[] {
  return [view, ...known.slice(0, maxViewsPerAddress - 1)];
}

/** Most callers pass the same object again; some build a new one for each call. */
function isSame(a: PartyWorkload | null, b: PartyWorkload | null): boolean {
  if (a === b) return true;
  if (a === null || b === null) return false;
  return (
    a.name === b.name &&
    a.namespace === b.namespace &&
    a.serviceAccount === b.serviceAccount &&
    a.node === b.node &&
    hasSameEntries(a.labels, b.labels) &&
    hasSameEntries(a.ports ?? noPorts, b.ports ?? noPorts)
  );
}

const noPorts = {};

function hasSameEntries<V>(a: Readonly<Record<string, V>>, b: Readonly<Record<string, V>>): boolean {
  if (a === b) return true;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && a[name] === b[name]);
}

const prepared = new WeakMap<Snapshot, PreparedSnapshot>();

/**
 * Prepares a snapshot once; later calls with the same object are a look-up. `previous`: the revision before it; objects
 * that both share are not prepared again. Throws CulvertError `SNAPSHOT_INVALID` when the snapshot cannot be read: call
 * it before switching to a revision, and keep the last good one then.
 */
export function prepareSnapshot(snapshot: Snapshot, previous: Snapshot | null = null): PreparedSnapshot {
  const known = prepared.get(snapshot);
  if (known !== undefined) return known;
  const before = previous === null ? undefined : prepared.get(previous);
  const fresh = new PreparedSnapshot(before === undefined ? { snapshot } : { snapshot, previous: before });
  prepared.set(snapshot, fresh);
  return fresh;
}
