import type { Cidr } from '../../address.js';
import { assertNever } from '../../assert-never.js';
import type { RuleRef } from '../connection.js';
import type { ConnectionFacts } from '../connection-facts.js';
import { containsAny, hasLabels, readCidr, type LabelPairs } from './conditions.js';
import type {
  AuthorizationCondition,
  AuthorizationOperation,
  AuthorizationSource,
  CompiledAuthorizationPolicy,
  CompiledAuthorizationRule,
} from '../snapshot.js';

export type PreparedPolicy = {
  readonly policy: CompiledAuthorizationPolicy;
  readonly ref: RuleRef;
  readonly selector: LabelPairs;
  readonly rules: readonly PreparedAuthorizationRule[];
};

export type PreparedAuthorizationRule = {
  readonly from: readonly PreparedSource[];
  readonly to: readonly PreparedOperation[];
  readonly when: readonly PreparedCondition[];
};

type PreparedCondition = {
  readonly condition: AuthorizationCondition;
  readonly isAmong: ((facts: ConnectionFacts) => boolean) | null;
  readonly isAmongNot: ((facts: ConnectionFacts) => boolean) | null;
};

type PreparedSource = {
  readonly serviceAccounts: ReadonlySet<string> | null;
  readonly notServiceAccounts: ReadonlySet<string> | null;
  readonly principals: NameMatcher | null;
  readonly notPrincipals: NameMatcher | null;
  readonly namespaces: NameMatcher | null;
  readonly notNamespaces: NameMatcher | null;
  readonly trustDomains: NameMatcher | null;
  readonly notTrustDomains: NameMatcher | null;
  readonly ipBlocks: readonly Cidr[] | null;
  readonly notIpBlocks: readonly Cidr[] | null;
};

type PreparedOperation = { readonly ports: ReadonlySet<number> | null; readonly notPorts: ReadonlySet<number> | null };

/** Istio's string matches: exact, `*` (any present value), `prefix*`, `*suffix`. */
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

function prepareRule({ from, to, when = [] }: CompiledAuthorizationRule): PreparedAuthorizationRule {
  return { from: from.map(prepareSource), to: to.map(prepareOperation), when: when.map(prepareCondition) };
}

function prepareCondition(condition: AuthorizationCondition): PreparedCondition {
  const { key, values, notValues } = condition;
  return {
    condition,
    isAmong: values === undefined ? null : conditionTest(key, values),
    isAmongNot: notValues === undefined ? null : conditionTest(key, notValues),
  };
}

function conditionTest(key: AuthorizationCondition['key'], values: readonly string[]) {
  const cidrs = key.endsWith('.ip') ? values.map(readCidr) : [];
  const names = nameMatcher(values) ?? noName;
  switch (key) {
    case 'source.ip':
      return ({ source }: ConnectionFacts) => containsAny(cidrs, source.ip);
    case 'source.namespace':
      return ({ principalNamespace }: ConnectionFacts) => matchesName(names, principalNamespace);
    case 'source.principal':
      return ({ principal }: ConnectionFacts) => matchesName(names, principal);
    case 'source.serviceAccount':
      return ({ principalAccount }: ConnectionFacts) => hasName(names.exact, principalAccount);
    case 'source.trustDomain':
      return ({ principalTrustDomain }: ConnectionFacts) => matchesName(names, principalTrustDomain);
    case 'destination.ip':
      return ({ destination }: ConnectionFacts) => containsAny(cidrs, destination.ip);
    case 'destination.port':
      return ({ port }: ConnectionFacts) => names.exact.has(String(port));
    default:
      return assertNever(key);
  }
}

function prepareSource(source: AuthorizationSource): PreparedSource {
  return {
    serviceAccounts: source.serviceAccounts === undefined ? null : new Set(source.serviceAccounts),
    notServiceAccounts: source.notServiceAccounts === undefined ? null : new Set(source.notServiceAccounts),
    principals: nameMatcher(source.principals),
    notPrincipals: nameMatcher(source.notPrincipals),
    namespaces: nameMatcher(source.namespaces),
    notNamespaces: nameMatcher(source.notNamespaces),
    trustDomains: nameMatcher(source.trustDomains),
    notTrustDomains: nameMatcher(source.notTrustDomains),
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

const noName: NameMatcher = { hasWildcard: false, exact: new Set(), prefixes: [], suffixes: [] };

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

/** Whether the policy selects this destination workload: by namespace (any, for the root namespace) and labels. */
export function selects(prepared: PreparedPolicy, labels: Readonly<Record<string, string>>): boolean {
  return hasLabels(prepared.selector, labels);
}

/** One matching rule is enough; a policy without rules matches nothing. */
export function matchesPolicy({ rules }: PreparedPolicy, facts: ConnectionFacts): boolean {
  for (const rule of rules) if (matchesAuthorizationRule(rule, facts)) return true;
  return false;
}

export function matchesAuthorizationRule(rule: PreparedAuthorizationRule, facts: ConnectionFacts): boolean {
  return matchesFrom(rule, facts) && matchesTo(rule, facts) && matchesWhen(rule, facts);
}

function matchesWhen({ when }: PreparedAuthorizationRule, facts: ConnectionFacts): boolean {
  for (const { isAmong, isAmongNot } of when) {
    if (isAmong?.(facts) === false || isAmongNot?.(facts) === true) return false;
  }
  return true;
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

/** An unauthenticated source matches no principal, account, namespace or trust domain, and so satisfies every `not…` list. */
function matchesSource(source: PreparedSource, facts: ConnectionFacts): boolean {
  const { principal, principalAccount, principalNamespace, principalTrustDomain } = facts;
  const { ip } = facts.source;
  return (
    (source.serviceAccounts === null || hasName(source.serviceAccounts, principalAccount)) &&
    (source.notServiceAccounts === null || !hasName(source.notServiceAccounts, principalAccount)) &&
    (source.principals === null || matchesName(source.principals, principal)) &&
    (source.notPrincipals === null || !matchesName(source.notPrincipals, principal)) &&
    (source.namespaces === null || matchesName(source.namespaces, principalNamespace)) &&
    (source.notNamespaces === null || !matchesName(source.notNamespaces, principalNamespace)) &&
    (source.trustDomains === null || matchesName(source.trustDomains, principalTrustDomain)) &&
    (source.notTrustDomains === null || !matchesName(source.notTrustDomains, principalTrustDomain)) &&
    (source.ipBlocks === null || containsAny(source.ipBlocks, ip)) &&
    (source.notIpBlocks === null || !containsAny(source.notIpBlocks, ip))
  );
}

function hasName(names: ReadonlySet<string>, name: string | null): boolean {
  return name !== null && names.has(name);
}

function matchesName({ hasWildcard, exact, prefixes, suffixes }: NameMatcher, name: string | null): boolean {
  if (name === null) return false;
  if (hasWildcard || exact.has(name)) return true;
  for (const prefix of prefixes) if (name.startsWith(prefix)) return true;
  for (const suffix of suffixes) if (name.endsWith(suffix)) return true;
  return false;
}
