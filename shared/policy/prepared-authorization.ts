import type { Cidr } from '../address.js';
import type { RuleRef } from './connection.js';
import type { ConnectionFacts } from './connection-facts.js';
import { containsAny, hasLabels, readCidr } from './prepared-peer.js';
import type {
  AuthorizationOperation,
  AuthorizationSource,
  CompiledAuthorizationPolicy,
  CompiledAuthorizationRule,
} from './snapshot.js';

export type PreparedPolicy = {
  readonly policy: CompiledAuthorizationPolicy;
  readonly ref: RuleRef;
  readonly selector: readonly (readonly [name: string, value: string])[];
  readonly rules: readonly PreparedAuthorizationRule[];
};

export type PreparedAuthorizationRule = {
  readonly from: readonly PreparedSource[];
  readonly to: readonly PreparedOperation[];
};

type PreparedSource = {
  readonly principals: NameMatcher | null;
  readonly notPrincipals: NameMatcher | null;
  readonly namespaces: NameMatcher | null;
  readonly notNamespaces: NameMatcher | null;
  readonly ipBlocks: readonly Cidr[] | null;
  readonly notIpBlocks: readonly Cidr[] | null;
};

type PreparedOperation = { readonly ports: ReadonlySet<number> | null; readonly notPorts: ReadonlySet<number> | null };

/** Istio's text matches: exact, `*` (anything that is there), `prefix*`, `*suffix`. */
type NameMatcher = {
  readonly hasWildcard: boolean;
  readonly exact: ReadonlySet<string>;
  readonly prefixes: readonly string[];
  readonly suffixes: readonly string[];
};

export function preparePolicy(policy: CompiledAuthorizationPolicy): PreparedPolicy {
  const { namespace, name } = policy;
  return {
    policy,
    ref: Object.freeze({ kind: 'AuthorizationPolicy', name, namespace } as const),
    selector: Object.entries(policy.selector),
    rules: policy.rules.map(prepareRule),
  };
}

function prepareRule({ from, to }: CompiledAuthorizationRule): PreparedAuthorizationRule {
  return { from: from.map(prepareSource), to: to.map(prepareOperation) };
}

function prepareSource(source: AuthorizationSource): PreparedSource {
  return {
    principals: nameMatcher(source.principals),
    notPrincipals: nameMatcher(source.notPrincipals),
    namespaces: nameMatcher(source.namespaces),
    notNamespaces: nameMatcher(source.notNamespaces),
    ipBlocks: source.ipBlocks?.map(readCidr) ?? null,
    notIpBlocks: source.notIpBlocks?.map(readCidr) ?? null,
  };
}

function prepareOperation({ ports, notPorts }: AuthorizationOperation): PreparedOperation {
  return {
    ports: ports === undefined ? null : new Set(ports),
    notPorts: notPorts === undefined ? null : new Set(notPorts),
  };
}

function nameMatcher(values: readonly string[] | undefined): NameMatcher | null {
  if (values === undefined) return null;
  const named = values.filter((value) => value !== '*');
  const suffixes = named.filter((value) => value.startsWith('*'));
  const prefixes = named.filter((value) => !value.startsWith('*') && value.endsWith('*'));
  return {
    hasWildcard: named.length < values.length,
    exact: new Set(named.filter((value) => !value.startsWith('*') && !value.endsWith('*'))),
    prefixes: prefixes.map((value) => value.slice(0, -1)),
    suffixes: suffixes.map((value) => value.slice(1)),
  };
}

/** Whether the policy is about this destination workload: by its namespace (or everywhere, from the root) and labels. */
export function selects(prepared: PreparedPolicy, labels: Readonly<Record<string, string>>): boolean {
  return hasLabels(prepared.selector, labels);
}

/** One rule is enough; a policy without rules matches nothing. */
export function matchesPolicy({ rules }: PreparedPolicy, facts: ConnectionFacts): boolean {
  for (const rule of rules) if (matchesFrom(rule, facts) && matchesTo(rule, facts)) return true;
  return false;
}

export function matchesFrom({ from }: PreparedAuthorizationRule, facts: ConnectionFacts): boolean {
  if (from.length === 0) return true;
  for (const source of from) if (matchesSource(source, facts)) return true;
  return false;
}

export function matchesTo({ to }: PreparedAuthorizationRule, facts: ConnectionFacts): boolean {
  if (to.length === 0) return true;
  for (const { ports, notPorts } of to) {
    if ((ports === null || ports.has(facts.port)) && (notPorts === null || !notPorts.has(facts.port))) return true;
  }
  return false;
}

/** Who proved nothing matches no principal and no namespace, and so every `not…`. */
function matchesSource(source: PreparedSource, { principal, principalNamespace, source: { ip } }: ConnectionFacts) {
  return (
    (source.principals === null || matchesName(source.principals, principal)) &&
    (source.notPrincipals === null || !matchesName(source.notPrincipals, principal)) &&
    (source.namespaces === null || matchesName(source.namespaces, principalNamespace)) &&
    (source.notNamespaces === null || !matchesName(source.notNamespaces, principalNamespace)) &&
    (source.ipBlocks === null || containsAny(source.ipBlocks, ip)) &&
    (source.notIpBlocks === null || !containsAny(source.notIpBlocks, ip))
  );
}

function matchesName({ hasWildcard, exact, prefixes, suffixes }: NameMatcher, name: string | null): boolean {
  if (name === null) return false;
  if (hasWildcard || exact.has(name)) return true;
  for (const prefix of prefixes) if (name.startsWith(prefix)) return true;
  for (const suffix of suffixes) if (name.endsWith(suffix)) return true;
  return false;
}
