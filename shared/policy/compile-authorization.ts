import { parsePortText, type AuthorizationPolicy } from '../model/authorization-policy.js';
import type {
  AuthorizationOperation,
  AuthorizationSource,
  CompiledAuthorizationPolicy,
  CompiledAuthorizationRule,
} from './snapshot.js';

type Rule = NonNullable<AuthorizationPolicy['spec']['rules']>[number];
type Source = NonNullable<Rule['from']>[number]['source'];
type Operation = NonNullable<Rule['to']>[number]['operation'];

/**
 * AuthorizationPolicies sorted by namespace and name. `cluster.local` as the trust domain of a principal stands for the
 * mesh's own trust domain, whatever that is called (Istio, "Trust Domain Migration").
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
    selector: spec.selector?.matchLabels ?? {},
    rules: (spec.rules ?? []).map((rule) => compileRule(rule, trustDomain)),
  };
}

function compileRule(rule: Rule, trustDomain: string): CompiledAuthorizationRule {
  return {
    from: (rule.from ?? []).map(({ source }) => compileSource(source, trustDomain)),
    to: (rule.to ?? []).map(({ operation }) => compileOperation(operation)),
  };
}

function compileSource(source: Source, trustDomain: string): AuthorizationSource {
  const { principals, notPrincipals, ...rest } = source;
  return {
    ...rest,
    ...(principals === undefined ? {} : { principals: inTrustDomain(principals, trustDomain) }),
    ...(notPrincipals === undefined ? {} : { notPrincipals: inTrustDomain(notPrincipals, trustDomain) }),
  };
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

function byNamespaceAndName(a: CompiledAuthorizationPolicy, b: CompiledAuthorizationPolicy): number {
  const [keyA, keyB] = [`${a.namespace}/${a.name}`, `${b.namespace}/${b.name}`];
  return keyA < keyB ? -1 : keyA > keyB ? 1 : 0;
}
