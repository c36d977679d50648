import { asksForDryRun, parsePortText, type AuthorizationPolicy } from '../resources/kinds/authorization-policy.js';
import type {
  AuthorizationCondition,
  AuthorizationOperation,
  AuthorizationSource,
  CompiledAuthorizationPolicy,
  CompiledAuthorizationRule,
} from '../../shared/policy/snapshot.js';
import { serviceAccountName } from '../../shared/routing/names.js';

type Rule = NonNullable<AuthorizationPolicy['spec']['rules']>[number];
type Source = NonNullable<Rule['from']>[number]['source'];
type Condition = NonNullable<Rule['when']>[number];
type Operation = NonNullable<Rule['to']>[number]['operation'];

/**
 * Compiles AuthorizationPolicies, sorted by namespace and name. The trust domain `cluster.local` stands for the
 * mesh's own, in principals and by itself (Istio, "Trust Domain Migration").
 */
export function compileAuthorization(
  policies: readonly AuthorizationPolicy[],
  trustDomain: string,
): CompiledAuthorizationPolicy[] {
  return policies.map((policy) => compilePolicy(policy, trustDomain)).sort(byNamespaceAndName);
}

function compilePolicy({ metadata, spec }: AuthorizationPolicy, trustDomain: string): CompiledAuthorizationPolicy {
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    action: spec.action,
    ...(asksForDryRun(metadata.annotations) === true ? { dryRun: true } : {}),
    selector: spec.selector?.matchLabels ?? {},
    rules: (spec.rules ?? []).map((rule) => compileRule(rule, { trustDomain, namespace: metadata.namespace })),
  };
}

/** The policy's own namespace and trust domain, which complete short names in it. */
type Scope = { readonly trustDomain: string; readonly namespace: string };

function compileRule(rule: Rule, scope: Scope): CompiledAuthorizationRule {
  return {
    from: (rule.from ?? []).map(({ source }) => compileSource(source, scope)),
    to: (rule.to ?? []).map(({ operation }) => compileOperation(operation)),
    ...(rule.when === undefined ? {} : { when: rule.when.map((condition) => compileCondition(condition, scope)) }),
  };
}

function compileCondition({ key, values, notValues }: Condition, scope: Scope): AuthorizationCondition {
  const compiled = (listed: readonly string[]): readonly string[] => {
    switch (key) {
      case 'source.principal':
        return inTrustDomain(listed, scope.trustDomain);
      case 'source.trustDomain':
        return trustDomains(listed, scope.trustDomain);
      case 'source.serviceAccount':
        return accounts(listed, scope.namespace);
      default:
        return listed;
    }
  };
  return {
    key,
    ...(values === undefined ? {} : { values: compiled(values) }),
    ...(notValues === undefined ? {} : { notValues: compiled(notValues) }),
  };
}

function compileSource(source: Source, { trustDomain, namespace }: Scope): AuthorizationSource {
  const { principals, notPrincipals, serviceAccounts, notServiceAccounts, ...others } = source;
  const { trustDomains: domains, notTrustDomains: notDomains, ...rest } = others;
  return {
    ...rest,
    ...(domains === undefined ? {} : { trustDomains: trustDomains(domains, trustDomain) }),
    ...(notDomains === undefined ? {} : { notTrustDomains: trustDomains(notDomains, trustDomain) }),
    ...(serviceAccounts === undefined ? {} : { serviceAccounts: accounts(serviceAccounts, namespace) }),
    ...(notServiceAccounts === undefined ? {} : { notServiceAccounts: accounts(notServiceAccounts, namespace) }),
    ...(principals === undefined ? {} : { principals: inTrustDomain(principals, trustDomain) }),
    ...(notPrincipals === undefined ? {} : { notPrincipals: inTrustDomain(notPrincipals, trustDomain) }),
  };
}

/** Names without a namespace are in that of the policy. */
function accounts(names: readonly string[], namespace: string): string[] {
  return names.map((name) => (name.includes('/') ? name : serviceAccountName({ namespace, serviceAccount: name })));
}

function trustDomains(names: readonly string[], trustDomain: string): string[] {
  return names.map((name) => (name === 'cluster.local' ? trustDomain : name));
}

function inTrustDomain(principals: readonly string[], trustDomain: string): string[] {
  return principals.map((principal) => principal.replace(/^cluster\.local\//, `${trustDomain}/`));
}

function compileOperation({ ports, notPorts }: Operation): AuthorizationOperation {
  return {
    ...(ports === undefined ? {} : { ports: portNumbers(ports) }),
    ...(notPorts === undefined ? {} : { notPorts: portNumbers(notPorts) }),
  };
}

function portNumbers(ports: readonly (number | string)[]): number[] {
  return ports.map(parsePortText).filter((port) => port !== undefined);
}

type Named = { readonly namespace: string; readonly name: string };

export function byNamespaceAndName(a: Named, b: Named): number {
  const [keyA, keyB] = [`${a.namespace}/${a.name}`, `${b.namespace}/${b.name}`];
  return keyA < keyB ? -1 : keyA > keyB ? 1 : 0;
}
