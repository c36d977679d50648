import { ipBytes } from '../../address.js';
import type { SpiffeId } from '../../identity.js';
import type { AuthorizationSelection } from './authorization-selection.js';
import { BoundedCache } from './bounded-cache.js';
import type { Party, PartyWorkload } from '../connection.js';
import {
  destinationFacts,
  sourceFacts,
  type FactsContext,
  type PartyFacts,
  type SourceFacts,
} from '../connection-facts.js';
import { ExternalAddresses } from './external-addresses.js';
import { NamespaceLabels } from './namespace-labels.js';
import type { NetworkIsolation, NetworkSelection } from './network-selection.js';
import type { ScopesOfRevision } from './policy-scopes.js';
import { PreparedParts } from './prepared-parts.js';
import { matchesPorts, type PreparedRule } from './prepared-rule.js';
import { filledWords, type RuleBits } from './rule-bits.js';
import { RuleIndex } from './rule-index.js';
import { tiers, type CompiledExternal, type Snapshot, type Tier } from '../snapshot.js';

/** All that depends on the source alone, worked out when it is first seen. */
export type SourceView = {
  readonly identity: SpiffeId | null;
  readonly workload: PartyWorkload | null;
  readonly facts: SourceFacts;
  /** Rules that are about it, by their position in {@link PreparedSnapshot.rules}. */
  readonly rules: RuleBits;
  /** The words of `rules` that are not empty. */
  readonly words: Int32Array;
  /** NetworkPolicies that isolate it for egress: also by what it only seems to be, because isolation denies. */
  readonly isolation: NetworkIsolation | null;
};

export type DestinationView = {
  readonly identity: SpiffeId | null;
  /** A ServiceEntry names it, on the port that was dialled. */
  readonly isNamed: boolean;
  readonly workload: PartyWorkload | null;
  readonly facts: PartyFacts;
  readonly rules: RuleBits;
  /** AuthorizationPolicies that are about it, those of the root namespace first; none of the two is empty. */
  readonly policies: readonly AuthorizationSelection[];
  /** NetworkPolicies that isolate it for ingress. */
  readonly isolation: NetworkIsolation | null;
};

/** The memory that views of one snapshot may take, roughly, and the most of them that are ever kept. */
const maxViewBytes = 48 * 1024 * 1024;
const maxViews = 16_384;
const maxViewsPerAddress = 4;
const bytesPerViewBesidesRules = 512;

/** A snapshot in the form that is quick to ask: CIDRs parsed, names in sets, rules found by indexes. */
export class PreparedSnapshot {
  /** In the order of evaluation. */
  readonly rules: readonly PreparedRule[];
  /** The positions of each tier: from the first to before the second. */
  readonly ranges: Readonly<Record<Tier, readonly [start: number, end: number]>>;
  /** When a rule begins or ends, sorted, in milliseconds since 1970. */
  readonly changesMs: readonly number[];
  readonly #parts: PreparedParts;
  readonly #index: RuleIndex;
  readonly #context: FactsContext;
  readonly #externals: ExternalAddresses;
  readonly #rootNamespace: string;
  readonly #authorizations: ScopesOfRevision<AuthorizationSelection>;
  readonly #isolations: ScopesOfRevision<NetworkSelection>;
  /** By address: more than one view has only an address that proves one identity and then another. */
  readonly #sources: BoundedCache<string, readonly SourceView[]>;
  readonly #destinations: BoundedCache<string, readonly DestinationView[]>;
  readonly #namedAt: BoundedCache<string, readonly CompiledExternal[]>;

  /** `previous`: what it has in common with this one is not prepared again. It stays as it is. */
  constructor({ snapshot, previous }: { readonly snapshot: Snapshot; readonly previous?: PreparedSnapshot }) {
    const { mesh } = snapshot;
    const parts = previous?.reusableParts ?? new PreparedParts();
    this.#parts = parts;
    const prepared = snapshot.rules.map((rule) => parts.rule(rule));
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
    const bytesPerView = this.#index.bytesPerSet + bytesPerViewBesidesRules;
    const maxEntries = Math.max(64, Math.min(maxViews, Math.floor(maxViewBytes / bytesPerView / 2)));
    this.#sources = new BoundedCache({ maxEntries });
    this.#destinations = new BoundedCache({ maxEntries });
    this.#namedAt = new BoundedCache({ maxEntries });
  }

  /** For the next revision; undefined when little of it would be used. */
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
    };
    this.#destinations.set(party.ip, withView(known, view));
    return view;
  }

  /** The rules that are about the port. */
  port(port: number): RuleBits {
    return this.#index.ofPort(port);
  }

  #isNamed({ ip }: Party, port: number): boolean {
    let externals = this.#namedAt.get(ip);
    if (externals === undefined) {
      externals = this.#externals.namedAt(ipBytes(ip));
      this.#namedAt.set(ip, externals);
    }
    return externals.some(({ ports }) => matchesPorts(ports, port));
  }

  #policiesFor(workload: PartyWorkload | null): AuthorizationSelection[] {
    if (workload === null) return [];
    const { namespace, labels } = workload;
    const namespaces = namespace === this.#rootNamespace ? [namespace] : [this.#rootNamespace, namespace];
    return namespaces.flatMap((name) => {
      const selection = this.#authorizations.get(name)?.about(labels);
      return selection === undefined || selection.policies.length === 0 ? [] : [selection];
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

/** Newest first; those of an address that changes its mind all the time are forgotten. */
function withView<V>(known: readonly V[], view: V): readonly V[] {
  return [view, ...known.slice(0, maxViewsPerAddress - 1)];
}

/** Most callers give the same object again; some build it anew for each question. */
function isSame(a: PartyWorkload | null, b: PartyWorkload | null): boolean {
  if (a === b) return true;
  if (a === null || b === null) return false;
  return (
    a.name === b.name &&
    a.namespace === b.namespace &&
    a.serviceAccount === b.serviceAccount &&
    a.node === b.node &&
    hasSameLabels(a.labels, b.labels)
  );
}

function hasSameLabels(a: PartyWorkload['labels'], b: PartyWorkload['labels']): boolean {
  if (a === b) return true;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && a[name] === b[name]);
}

const prepared = new WeakMap<Snapshot, PreparedSnapshot>();

/**
 * Prepares a snapshot once; later calls for the same object are a look-up. `previous` is the revision before it: what
 * the two have in common, as the same objects, is not prepared again. Throws CulvertError `SNAPSHOT_INVALID` when it
 * cannot be read: call it before switching to a revision, and keep the last good one then.
 */
export function prepareSnapshot(snapshot: Snapshot, previous: Snapshot | null = null): PreparedSnapshot {
  const known = prepared.get(snapshot);
  if (known !== undefined) return known;
  const before = previous === null ? undefined : prepared.get(previous);
  const fresh = new PreparedSnapshot(before === undefined ? { snapshot } : { snapshot, previous: before });
  prepared.set(snapshot, fresh);
  return fresh;
}
