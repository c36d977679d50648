import { assertNever } from '../../assert-never.js';
import type { NetworkSet } from '../../network-set.js';
import { portsOfRule } from './authorization-ports.js';
import { NamePatterns } from './name-patterns.js';
import type { RuleRef } from '../connection.js';
import type { ConnectionFacts } from '../connection-facts.js';
import { hasLabels, readNetworks, type LabelPairs } from './conditions.js';
import type {
  AuthorizationCondition,
  AuthorizationOperation,
  AuthorizationSource,
  CompiledAuthorizationPolicy,
  CompiledAuthorizationRule,
  PortRange,
} from '../snapshot.js';

export type PreparedPolicy = {
  readonly policy: CompiledAuthorizationPolicy;
  readonly ref: RuleRef;
  readonly selector: LabelPairs;
  readonly rules: readonly PreparedAuthorizationRule[];
};

export type PreparedAuthorizationRule = {
  readonly written: CompiledAuthorizationRule;
  /** For which `to` and the conditions on ports hold; an empty list is every port. Null: none. */
  readonly ports: readonly PortRange[] | null;
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
  readonly principals: NamePatterns | null;
  readonly notPrincipals: NamePatterns | null;
  readonly namespaces: NamePatterns | null;
  readonly notNamespaces: NamePatterns | null;
  readonly trustDomains: NamePatterns | null;
  readonly notTrustDomains: NamePatterns | null;
  readonly ipBlocks: NetworkSet | null;
  readonly notIpBlocks: NetworkSet | null;
};

type PreparedOperation = { readonly ports: ReadonlySet<number> | null; readonly notPorts: ReadonlySet<number> | null };

export function preparePolicy(policy: CompiledAuthorizationPolicy): PreparedPolicy {
  const { namespace, name } = policy;
  return {
    policy,
    ref: Object.freeze({ kind: 'AuthorizationPolicy', name, namespace } as const),
    selector: Object.entries(policy.selector),
    rules: policy.rules.map(prepareRule),
  };
}

function prepareRule(written: CompiledAuthorizationRule): PreparedAuthorizationRule {
  const { from, to, when = [] } = written;
  return {
    written,
    ports: portsOfRule(written),
    from: from.map(prepareSource),
    to: to.map(prepareOperation),
    when: when.map(prepareCondition),
  };
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
  const networks = readNetworks(key.endsWith('.ip') ? values : []);
  const names = new NamePatterns({ values });
  switch (key) {
    case 'source.ip':
      return ({ source }: ConnectionFacts) => networks.has(source.ip);
    case 'source.namespace':
      return ({ principalNamespace }: ConnectionFacts) => names.has(principalNamespace);
    case 'source.principal':
      return ({ principal }: ConnectionFacts) => names.has(principal);
    case 'source.serviceAccount':
      return ({ principalAccount }: ConnectionFacts) => names.hasExact(principalAccount);
    case 'source.trustDomain':
      return ({ principalTrustDomain }: ConnectionFacts) => names.has(principalTrustDomain);
    case 'destination.ip':
      return ({ destination }: ConnectionFacts) => networks.has(destination.ip);
    case 'destination.port':
      return ({ port }: ConnectionFacts) => names.hasExact(String(port));
    default:
      return assertNever(key);
  }
}

function prepareSource(source: AuthorizationSource): PreparedSource {
  return {
    serviceAccounts: source.serviceAccounts === undefined ? null : new Set(source.serviceAccounts),
    notServiceAccounts: source.notServiceAccounts === undefined ? null : new Set(source.notServiceAccounts),
    principals: optionalNames(source.principals),
    notPrincipals: optionalNames(source.notPrincipals),
    namespaces: optionalNames(source.namespaces),
    notNamespaces: optionalNames(source.notNamespaces),
    trustDomains: optionalNames(source.trustDomains),
    notTrustDomains: optionalNames(source.notTrustDomains),
    ipBlocks: optionalNetworks(source.ipBlocks),
    notIpBlocks: optionalNetworks(source.notIpBlocks),
  };
}

function optionalNetworks(texts: readonly string[] | undefined): NetworkSet | null {
  return texts === undefined ? null : readNetworks(texts);
}

function prepareOperation({ ports, notPorts }: AuthorizationOperation): PreparedOperation {
  return {
    ports: ports === undefined ? null : new Set(ports),
    notPorts: notPorts === undefined ? null : new Set(notPorts),
  };
}

function optionalNames(values: readonly string[] | undefined): NamePatterns | null {
  return values === undefined ? null : new NamePatterns({ values });
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
  return matchesFrom(rule, facts) && matchesTo(rule, facts) && holdsWhen(rule, facts, '');
}

/** What a rule asks of the source alone. */
export function matchesSourceOf(rule: PreparedAuthorizationRule, facts: ConnectionFacts): boolean {
  return matchesFrom(rule, facts) && holdsWhen(rule, facts, 'source.');
}

/** What a rule asks of the destination: its address, and the port, which {@link PreparedAuthorizationRule.ports} has too. */
export function matchesDestinationOf(rule: PreparedAuthorizationRule, facts: ConnectionFacts): boolean {
  return rule.when.length === 0 || holdsWhen(rule, facts, 'destination.');
}

/** Only conditions about this subject. */
function holdsWhen({ when }: PreparedAuthorizationRule, facts: ConnectionFacts, subject: string): boolean {
  for (const { condition, isAmong, isAmongNot } of when) {
    if (!condition.key.startsWith(subject)) continue;
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
    (source.principals === null || source.principals.has(principal)) &&
    (source.notPrincipals === null || !source.notPrincipals.has(principal)) &&
    (source.namespaces === null || source.namespaces.has(principalNamespace)) &&
    (source.notNamespaces === null || !source.notNamespaces.has(principalNamespace)) &&
    (source.trustDomains === null || source.trustDomains.has(principalTrustDomain)) &&
    (source.notTrustDomains === null || !source.notTrustDomains.has(principalTrustDomain)) &&
    (source.ipBlocks === null || source.ipBlocks.has(ip)) &&
    (source.notIpBlocks === null || !source.notIpBlocks.has(ip))
  );
}

function hasName(names: ReadonlySet<string>, name: string | null): boolean {
  return name !== null && names.has(name);
}
