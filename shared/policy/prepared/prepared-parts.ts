import { authorizationScope, type AuthorizationSelection } from './authorization-selection.js';
import { networkScope, type NetworkSelection } from './network-selection.js';
import { PeerIndex } from './peer-index.js';
import { PolicyScopes } from './policy-scopes.js';
import { preparePolicy, type PreparedPolicy } from './prepared-authorization.js';
import { prepareNetworkPolicy, type PreparedNetworkPolicy } from './prepared-network-policy.js';
import { preparePeer, type PreparedPeer } from './prepared-peer.js';
import type { PreparedRule } from './prepared-rule.js';
import type { CompiledAuthorizationPolicy, CompiledNetworkPolicy, CompiledRule, PeerMatch } from '../snapshot.js';

/** So many peers that no rule names any more are carried along, besides as many as there are others. */
const sparePeers = 4096;

/**
 * What revisions that follow each other share, so that a change of one rule among thousands prepares one: rules and
 * policies by their objects, which stay the same while they do not change, and the indexes of their peers. Things are
 * only ever added, so that an older revision is still decided right; {@link isWorn} says when to begin anew.
 */
export class PreparedParts {
  readonly sources = new PeerIndex();
  readonly destinations = new PeerIndex();
  readonly authorizations = new PolicyScopes<PreparedPolicy, AuthorizationSelection>({ kind: authorizationScope });
  readonly isolations = new PolicyScopes<PreparedNetworkPolicy, NetworkSelection>({ kind: networkScope });
  readonly #rules = new WeakMap<CompiledRule, PreparedRule>();
  readonly #policies = new WeakMap<CompiledAuthorizationPolicy, PreparedPolicy>();
  readonly #networkPolicies = new WeakMap<CompiledNetworkPolicy, PreparedNetworkPolicy>();
  /** Peers that are written alike become one object: thousands of rules name the same few. */
  readonly #peers = new Map<string, PreparedPeer>();

  /** Throws CulvertError `SNAPSHOT_INVALID` for a CIDR that cannot be read, as do the others. */
  rule(rule: CompiledRule): PreparedRule {
    const known = this.#rules.get(rule);
    if (known !== undefined) return known;
    const prepared: PreparedRule = {
      rule,
      ref: Object.freeze({ kind: 'SegmentationRule', name: rule.name, tier: rule.tier } as const),
      from: rule.from.map((match) => this.#peer(match)),
      to: rule.to.map((match) => this.#peer(match)),
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

  /** More is carried along than is used. `livePeers`: on both sides of all rules of the newest revision. */
  isWorn(livePeers: number): boolean {
    return this.sources.size + this.destinations.size > 2 * livePeers + sparePeers;
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

function remembered<K extends object, V>(known: WeakMap<K, V>, key: K, prepare: (key: K) => V): V {
  const value = known.get(key) ?? prepare(key);
  known.set(key, value);
  return value;
}
