import { authorizationScope, type AuthorizationSelection } from './authorization-selection.js';
import { networkScope, type NetworkSelection } from './network-selection.js';
import { PeerIndex } from './peer-index.js';
import { PolicyScopes } from './policy-scopes.js';
import { preparePolicy, type PreparedPolicy } from './prepared-authorization.js';
import { prepareNetworkPolicy, type PreparedNetworkPolicy } from './prepared-network-policy.js';
import { preparePeer, type PreparedPeer } from './prepared-peer.js';
import { matchesIn, PreparedSegments, segmentsIn, type SegmentsByName } from './prepared-segment.js';
import type { PreparedSide } from './prepared-side.js';
import type { PreparedRule } from './prepared-rule.js';
import type {
  CompiledAuthorizationPolicy,
  CompiledNetworkPolicy,
  CompiledRule,
  PeerMatch,
  RulePeer,
} from '../snapshot.js';

/** Limit on peers kept although no rule names them any more, in addition to as many as are in use. */
const sparePeers = 4096;

/**
 * What consecutive revisions share, so that changing one rule among thousands prepares one rule: rules and policies by
 * object identity, which is stable while they do not change, and the indexes of their peers. Entries are only added, so
 * older revisions still decide correctly; {@link isWorn} says when to start over.
 */
export class PreparedParts {
  readonly sources = new PeerIndex();
  readonly destinations = new PeerIndex();
  readonly authorizations = new PolicyScopes<PreparedPolicy, AuthorizationSelection>({ kind: authorizationScope });
  readonly isolations = new PolicyScopes<PreparedNetworkPolicy, NetworkSelection>({ kind: networkScope });
  readonly segments = new PreparedSegments({ peer: (match) => this.#peer(match) });
  readonly #rules = new WeakMap<CompiledRule, PreparedRule>();
  readonly #policies = new WeakMap<CompiledAuthorizationPolicy, PreparedPolicy>();
  readonly #networkPolicies = new WeakMap<CompiledNetworkPolicy, PreparedNetworkPolicy>();
  /** Equal peers become one object: thousands of rules name the same few. */
  readonly #peers = new Map<string, PreparedPeer>();

  /** Throws CulvertError `SNAPSHOT_INVALID` for a rule that cannot be read, like the methods below. */
  rule(rule: CompiledRule, segments: SegmentsByName): PreparedRule {
    const known = this.#rules.get(rule);
    if (known !== undefined && isOf(known.from, segments) && isOf(known.to, segments)) return known;
    const prepared: PreparedRule = {
      rule,
      ref: Object.freeze({ kind: 'SegmentationRule', name: rule.name, tier: rule.tier } as const),
      from: this.#side(rule.from, segments),
      to: this.#side(rule.to, segments),
    };
    this.#rules.set(rule, prepared);
    return prepared;
  }

  policy(policy: CompiledAuthorizationPolicy): PreparedPolicy {
    return remembered(this.#policies, policy, preparePolicy);
  }

  networkPolicy(policy: CompiledNetworkPolicy): PreparedNetworkPolicy {
    return remembered(this.#networkPolicies, policy, prepareNetworkPolicy);
  }

  /** More unused peers are kept than it is worth. `livePeers`: on both sides of all rules of the newest revision. */
  isWorn(livePeers: number): boolean {
    return this.sources.size + this.destinations.size > 2 * livePeers + sparePeers;
  }

  #side(peers: readonly RulePeer[], segments: SegmentsByName): PreparedSide {
    return { peers: matchesIn(peers).map((match) => this.#peer(match)), segments: segmentsIn(peers, segments) };
  }

  #peer(match: PeerMatch): PreparedPeer {
    const text = JSON.stringify(match);
    const known = this.#peers.get(text);
    if (known !== undefined) return known;
    const peer = preparePeer(match);
    this.#peers.set(text, peer);
    return peer;
  }
}

/** Whether the segments that a side names are still the same. */
function isOf({ segments }: PreparedSide, byName: SegmentsByName): boolean {
  return segments.every((segment) => byName.get(segment.name) === segment);
}

function remembered<K extends object, V>(known: WeakMap<K, V>, key: K, prepare: (key: K) => V): V {
  const value = known.get(key) ?? prepare(key);
  known.set(key, value);
  return value;
}
