import type { ConnectionFacts } from '../connection-facts.js';
import { OrderedTests } from './ordered-tests.js';
import { labelKey, type ScopeKind } from './policy-scope.js';
import {
  matchesDestinationOf,
  matchesSourceOf,
  selects,
  type PreparedAuthorizationRule,
  type PreparedPolicy,
} from './prepared-authorization.js';
import type { AuthorizationSource } from '../snapshot.js';

/** The AuthorizationPolicies of one namespace that select one workload, in document order. */
export class AuthorizationSelection {
  /** Those that are enforced. */
  readonly policies: readonly PreparedPolicy[];
  /** Those that are tried and not enforced; null: none, as nearly always. */
  readonly dryRun: AuthorizationSelection | null;
  /** Null: no ALLOW policy selects the workload. */
  readonly #denying: Rules | null;
  readonly #allowing: Rules | null;
  readonly firstAllowing: PreparedPolicy | undefined;

  constructor({ policies, dryRun = [] }: SelectionInit) {
    this.policies = policies;
    this.dryRun = dryRun.length === 0 ? null : new AuthorizationSelection({ policies: dryRun });
    const rulesOf = (action: 'ALLOW' | 'DENY'): Rules | null => {
      const acting = policies.filter(({ policy }) => policy.action === action);
      return acting.length === 0 ? null : rulesOfPolicies(acting);
    };
    this.#denying = rulesOf('DENY');
    this.#allowing = rulesOf('ALLOW');
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

type RuleOfPolicy = { readonly rule: PreparedAuthorizationRule; readonly policy: PreparedPolicy };
type Rules = OrderedTests<RuleOfPolicy, ConnectionFacts>;

function rulesOfPolicies(policies: readonly PreparedPolicy[]): Rules {
  const items = policies.flatMap((policy) => policy.rules.map((rule) => ({ rule, policy })));
  return new OrderedTests({
    items: items.filter(({ rule }) => rule.ports !== null),
    keysOf: ({ rule }) => sourceKeys(rule),
    matches: ({ rule }, facts) => matchesSourceOf(rule, facts),
    portsOf: ({ rule }) => rule.ports ?? [],
    alternativesOf: ({ rule }) => rule.from.length,
  });
}

function firstMatch(rules: Rules | null, facts: ConnectionFacts): PreparedPolicy | undefined {
  if (rules === null) return undefined;
  const { source, destination, principal, principalAccount, principalNamespace, port } = facts;
  const keys = [principalAccount, principal, principalNamespace];
  const asked = { party: facts, view: source, keys, port, names: destination.ports };
  return rules.first(asked, ({ rule }) => matchesDestinationOf(rule, facts))?.policy;
}

/**
 * Accounts, principals and namespaces; a source must have one of them. Null: the rule may match other sources too.
 */
function sourceKeys({ written: { from } }: PreparedAuthorizationRule): readonly string[] | null {
  if (from.length === 0) return null;
  const keys: string[] = [];
  for (const source of from) {
    const names = exactNames(source);
    if (names === null) return null;
    keys.push(...names);
  }
  return keys;
}

function exactNames({ serviceAccounts, principals, namespaces }: AuthorizationSource): readonly string[] | null {
  // An account has one slash, a principal several and a namespace none, so one index can hold all three.
  const lists = [serviceAccounts, principals, namespaces];
  return lists.find((names) => names?.every((name) => !name.includes('*')) === true) ?? null;
}
