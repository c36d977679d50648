import type { PartyWorkload, RuleRef } from './connection.js';
import { destinationNamespaces } from './destination-namespaces.js';
import { preparePolicy, selects, type PreparedPolicy } from './prepared-authorization.js';
import { prepareRule, type PreparedRule } from './prepared-rule.js';
import type { Snapshot, Tier } from './snapshot.js';

/** The default of the mesh as a rule that can decide. */
export const meshDefaultRef: RuleRef = Object.freeze({ kind: 'Mesh', name: 'default' });

/** A snapshot in the form that is quick to ask: CIDRs parsed, names in sets, rules by destination namespace. */
export class PreparedSnapshot {
  readonly #tiers: Readonly<Record<Tier, TierIndex>>;
  readonly #root: readonly PreparedPolicy[];
  readonly #policies = new Map<string, PreparedPolicy[]>();

  constructor({ snapshot }: { snapshot: Snapshot }) {
    const rules = snapshot.rules.map(prepareRule);
    const tier = (name: Tier) => new TierIndex({ rules: rules.filter(({ rule }) => rule.tier === name) });
    this.#tiers = { platform: tier('platform'), team: tier('team'), baseline: tier('baseline') };
    const policies = snapshot.authorizationPolicies.map(preparePolicy);
    this.#root = policies.filter(({ policy }) => policy.namespace === snapshot.mesh.rootNamespace);
    for (const policy of policies) {
      const { namespace } = policy.policy;
      if (namespace === snapshot.mesh.rootNamespace) continue;
      this.#policies.set(namespace, [...(this.#policies.get(namespace) ?? []), policy]);
    }
  }

  allRules(tier: Tier): readonly PreparedRule[] {
    return this.#tiers[tier].rules;
  }

  /** The rules that can match a destination in this namespace (null: in none), in order. */
  rulesFor(tier: Tier, namespace: string | null): readonly PreparedRule[] {
    return this.#tiers[tier].forNamespace(namespace);
  }

  /** The policies that are about this workload. */
  policiesFor(workload: PartyWorkload | null): PreparedPolicy[] {
    if (workload === null) return [];
    const own = this.#policies.get(workload.namespace) ?? [];
    return [...this.#root, ...own].filter((policy) => selects(policy, workload.labels));
  }
}

class TierIndex {
  readonly rules: readonly PreparedRule[];
  readonly #namespaces: readonly (ReadonlySet<string> | null)[];
  /** Filled when a namespace is first asked for: an agent sees few of them. */
  readonly #byNamespace = new Map<string | null, readonly PreparedRule[]>();

  constructor({ rules }: { rules: readonly PreparedRule[] }) {
    this.rules = rules;
    this.#namespaces = rules.map(({ rule }) => destinationNamespaces(rule));
  }

  forNamespace(namespace: string | null): readonly PreparedRule[] {
    const known = this.#byNamespace.get(namespace);
    if (known !== undefined) return known;
    const possible = this.rules.filter((_, index) => {
      const namespaces = this.#namespaces[index] ?? null;
      return namespaces === null || (namespace !== null && namespaces.has(namespace));
    });
    this.#byNamespace.set(namespace, possible);
    return possible;
  }
}

const prepared = new WeakMap<Snapshot, PreparedSnapshot>();

/**
 * Prepares a snapshot once; later calls for the same object are a look-up. Throws CulvertError `SNAPSHOT_INVALID` when
 * it cannot be read: call it before switching to a revision, and keep the last good one then.
 */
export function prepareSnapshot(snapshot: Snapshot): PreparedSnapshot {
  const known = prepared.get(snapshot);
  if (known !== undefined) return known;
  const fresh = new PreparedSnapshot({ snapshot });
  prepared.set(snapshot, fresh);
  return fresh;
}
