import type { ConnectionFacts } from '../connection-facts.js';
import { KeyIndex } from './key-index.js';
import { labelKey, type ScopeKind } from './policy-scope.js';
import { matchesPolicy, selects, type PreparedPolicy } from './prepared-authorization.js';
import type { AuthorizationSource } from '../snapshot.js';

/** The AuthorizationPolicies of one namespace that select one workload, in document order. */
export class AuthorizationSelection {
  /** Those that are enforced. */
  readonly policies: readonly PreparedPolicy[];
  /** Those that are tried and not enforced; null: none, as nearly always. */
  readonly dryRun: AuthorizationSelection | null;
  /** Null: no ALLOW policy selects the workload. */
  readonly #denying: KeyIndex<PreparedPolicy> | null;
  readonly #allowing: KeyIndex<PreparedPolicy> | null;
  readonly firstAllowing: PreparedPolicy | undefined;

  constructor({ policies, dryRun = [] }: SelectionInit) {
    this.policies = policies;
    this.dryRun = dryRun.length === 0 ? null : new AuthorizationSelection({ policies: dryRun });
    const indexOf = (action: 'ALLOW' | 'DENY'): KeyIndex<PreparedPolicy> | null => {
      const items = policies.filter(({ policy }) => policy.action === action);
      return items.length === 0 ? null : new KeyIndex({ items, keysOf: sourceKeys });
    };
    this.#denying = indexOf('DENY');
    this.#allowing = indexOf('ALLOW');
    this.firstAllowing = policies.find(({ policy }) => policy.action === 'ALLOW');
  }

  get isEmpty(): boolean {
    return this.policies.length === 0 && this.dryRun === null;
  }

  /** The first that denies this connection. */
  denying(facts: ConnectionFacts): PreparedPolicy | undefined {
    return firstMatch(this.#denying, facts);
  }

  /** The first that allows it. */
  allowing(facts: ConnectionFacts): PreparedPolicy | undefined {
    return firstMatch(this.#allowing, facts);
  }
}

type SelectionInit = {
  readonly policies: readonly PreparedPolicy[];
  readonly dryRun?: readonly PreparedPolicy[];
};

/** AuthorizationPolicies select workloads by labels that must all be present. */
export const authorizationScope: ScopeKind<PreparedPolicy, AuthorizationSelection> = {
  keysOf: ({ selector: [pair] }) => (pair === undefined ? null : [labelKey(...pair)]),
  selects,
  select: (selected) => {
    const isDry = ({ policy }: PreparedPolicy): boolean => policy.dryRun === true;
    return new AuthorizationSelection({
      policies: selected.filter((policy) => !isDry(policy)),
      dryRun: selected.filter(isDry),
    });
  },
};

function firstMatch(index: KeyIndex<PreparedPolicy> | null, facts: ConnectionFacts): PreparedPolicy | undefined {
  if (index === null) return undefined;
  const { principal, principalAccount, principalNamespace } = facts;
  return index.first([principalAccount, principal, principalNamespace], (policy) => matchesPolicy(policy, facts));
}

/**
 * Accounts, principals and namespaces; a source must have one of them. Null: the policy may match other sources too.
 */
function sourceKeys({ policy: { rules } }: PreparedPolicy): readonly string[] | null {
  const keys: string[] = [];
  for (const { from } of rules) {
    if (from.length === 0) return null;
    for (const source of from) {
      const names = exactNames(source);
      if (names === null) return null;
      keys.push(...names);
    }
  }
  return keys;
}

function exactNames({ serviceAccounts, principals, namespaces }: AuthorizationSource): readonly string[] | null {
  // An account has one slash, a principal several and a namespace none, so one index can hold all three.
  const lists = [serviceAccounts, principals, namespaces];
  return lists.find((names) => names?.every((name) => !name.includes('*')) === true) ?? null;
}
