import ipaddr from 'ipaddr.js';
import type { Connection, Party } from '../../shared/policy/connection.js';
import type {
  AuthorizationSource,
  CompiledAuthorizationPolicy,
  CompiledRule,
  PeerMatch,
  Snapshot,
} from '../../shared/policy/snapshot.js';

/**
 * The evaluator written down a second time as slowly and plainly as possible, for the property tests. Identities are of
 * the snapshot's trust domain, and a registered source either proves its own identity or none.
 */
export function referenceVerdict(snapshot: Snapshot, connection: Connection): string {
  for (const tier of ['platform', 'team'] as const) {
    const outcome = tierVerdict(snapshot, connection, tier);
    if (outcome !== null) return outcome;
  }
  const authorized = authorizationVerdict(snapshot, connection);
  if (authorized !== null) return authorized;
  const baseline = tierVerdict(snapshot, connection, 'baseline');
  if (baseline !== null) return baseline;
  return snapshot.mesh.defaultAction === 'deny' ? 'deny default' : 'allow default';
}

function tierVerdict(snapshot: Snapshot, connection: Connection, tier: string): string | null {
  const rules = snapshot.rules
    .filter((rule) => rule.tier === tier && rule.mode === 'enforce')
    .sort((a, b) => a.priority - b.priority);
  const match = rules.find((rule) => ruleMatches(rule, connection));
  if (match === undefined || match.action === 'pass') return null;
  return `${match.action} ${match.name}`;
}

function ruleMatches(rule: CompiledRule, { source, destination, port }: Connection): boolean {
  const isTrusted = rule.action === 'deny' || source.identity !== null;
  return (
    (rule.from.length === 0 || rule.from.some((match) => peerMatches(match, source, isTrusted))) &&
    (rule.to.length === 0 || rule.to.some((match) => peerMatches(match, destination, true))) &&
    (rule.ports.length === 0 || rule.ports.some(([first, last]) => first <= port && port <= last))
  );
}

function peerMatches(match: PeerMatch, { ip, workload }: Party, isTrusted: boolean): boolean {
  const known = isTrusted ? workload : null;
  const checks = [
    match.namespaces?.includes(known?.namespace ?? ''),
    match.serviceAccounts?.includes(known === null ? '' : `${known.namespace}/${known.serviceAccount}`),
    match.workloads?.includes(known === null ? '' : `${known.namespace}/${known.name}`),
    match.nodes?.includes(known?.node ?? ''),
    match.labels && Object.entries(match.labels).every(([name, value]) => known?.labels[name] === value),
    match.cidrs?.some((cidr) => contains(cidr, ip)),
    match.exceptCidrs && !match.exceptCidrs.some((cidr) => contains(cidr, ip)),
  ];
  return checks.every((check) => check !== false);
}

function contains(cidr: string, ip: string): boolean {
  const [network, bits] = ipaddr.parseCIDR(cidr.includes('/') ? cidr : `${cidr}/32`);
  const address = ipaddr.parse(ip);
  return address.kind() === network.kind() && address.match(network, bits);
}

function authorizationVerdict(snapshot: Snapshot, { source, destination, port }: Connection): string | null {
  const { workload } = destination;
  if (workload === null) return null;
  const selected = snapshot.authorizationPolicies.filter(
    ({ namespace, selector }) =>
      (namespace === workload.namespace || namespace === snapshot.mesh.rootNamespace) &&
      Object.entries(selector).every(([name, value]) => workload.labels[name] === value),
  );
  const matches = (policy: CompiledAuthorizationPolicy) =>
    policy.rules.some(
      ({ from, to }) =>
        (from.length === 0 || from.some((candidate) => sourceMatches(candidate, source))) &&
        (to.length === 0 ||
          to.some(({ ports, notPorts }) => (ports?.includes(port) ?? true) && !(notPorts?.includes(port) ?? false))),
    );
  if (selected.some((policy) => policy.action === 'DENY' && matches(policy))) return 'deny authorization';
  const allowing = selected.filter(({ action }) => action === 'ALLOW');
  if (allowing.length === 0) return null;
  return allowing.some(matches) ? 'allow authorization' : 'deny authorization';
}

function sourceMatches(candidate: AuthorizationSource, { ip, identity }: Party): boolean {
  const principal = identity?.replace('spiffe://', '') ?? null;
  const namespace = principal?.split('/')[2] ?? null;
  const any = (patterns: readonly string[], text: string | null) =>
    text !== null && patterns.some((pattern) => new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(text));
  return (
    (candidate.principals === undefined || any(candidate.principals, principal)) &&
    (candidate.notPrincipals === undefined || !any(candidate.notPrincipals, principal)) &&
    (candidate.namespaces === undefined || any(candidate.namespaces, namespace)) &&
    (candidate.notNamespaces === undefined || !any(candidate.notNamespaces, namespace)) &&
    (candidate.ipBlocks === undefined || candidate.ipBlocks.some((cidr) => contains(cidr, ip))) &&
    (candidate.notIpBlocks === undefined || !candidate.notIpBlocks.some((cidr) => contains(cidr, ip)))
  );
}
