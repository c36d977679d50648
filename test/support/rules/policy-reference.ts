import ipaddr from 'ipaddr.js';
import type { Connection, Party } from '../../../shared/policy/connection.js';
import { rolloutBucket } from '../../../shared/policy/rollout.js';
import {
  isSegmentRef,
  type AuthorizationCondition,
  type AuthorizationSource,
  type CompiledAuthorizationPolicy,
  type CompiledNetworkPolicy,
  type CompiledRule,
  type LabelRequirement,
  type NetworkPolicyPeer,
  type NetworkPolicyRule,
  type RulePeer,
  type RulePort,
  type Snapshot,
} from '../../../shared/policy/snapshot.js';

/**
 * The evaluator written down a second time as slowly and plainly as possible, for the property tests. Identities are of
 * the snapshot's trust domain, and a registered source either proves its own identity or none. The text is the verdict
 * and the document that gives it; `expired` in front of a rule that would have allowed.
 */
export function referenceVerdict(snapshot: Snapshot, connection: Connection, nowMs: number): string {
  const run = new Reference(snapshot, connection, nowMs);
  const outcome = run.tier('platform') ?? run.tier('team') ?? run.policies() ?? run.tier('baseline') ?? run.unmatched();
  return outcome.startsWith('deny') && run.expired !== null ? `deny expired ${run.expired}` : outcome;
}

/**
 * The rules that would have denied but are only audited, in their order: all that match and are in force are laid in a
 * row up to the one that decides, and what an audited rule before them would have allowed or passed on is struck out.
 */
export function referenceAudited(snapshot: Snapshot, connection: Connection, nowMs: number): string[] {
  const run = new Reference(snapshot, connection, nowMs);
  const [platform, team, baseline] = ['platform', 'team', 'baseline'].map((tier) => run.inForce(tier));
  const row = [...(platform ?? []), ...(team ?? []), ...(run.policies() === null ? (baseline ?? []) : [])];
  const ends = row.findIndex(({ isAudited, action }) => !isAudited && action !== 'pass');
  const isDecided = ends >= 0 || run.policies() !== null;
  const asked = row.slice(0, ends < 0 ? row.length : ends);
  const isStruckOut = (index: number, tier: string): boolean =>
    asked
      .slice(0, index)
      .some(
        (before, at) =>
          before.isAudited &&
          (before.action === 'allow' || (before.action === 'pass' && before.tier === tier)) &&
          !isStruckOut(at, before.tier),
      );
  const counted = asked.filter(({ isAudited, action, tier }, index) => {
    return isAudited && action === 'deny' && !isStruckOut(index, tier);
  });
  const isDefaultCounted = !isDecided && run.isDefaultAudited() && !isStruckOut(asked.length, 'none');
  return [...counted.map(({ name }) => name), ...(isDefaultCounted ? ['default'] : [])];
}

type InForce = Pick<CompiledRule, 'name' | 'tier' | 'action'> & { readonly isAudited: boolean };

class Reference {
  expired: string | null = null;
  readonly #snapshot: Snapshot;
  readonly #connection: Connection;
  readonly #nowMs: number;

  constructor(snapshot: Snapshot, connection: Connection, nowMs: number) {
    this.#snapshot = snapshot;
    this.#connection = connection;
    this.#nowMs = nowMs;
  }

  tier(tier: string): string | null {
    const rules = this.#snapshot.rules
      .filter((rule) => rule.tier === tier && rule.mode === 'enforce')
      .sort((a, b) => a.priority - b.priority);
    const { source } = this.#connection;
    for (const rule of rules) {
      if (!this.#ruleMatches(rule) || rolloutBucket(source.identity ?? source.ip, rule.name) >= rule.rollout) continue;
      if (this.#nowMs < (rule.validFromMs ?? 0)) continue;
      if (this.#nowMs >= (rule.expiresAtMs ?? Infinity)) {
        if (rule.action === 'allow') this.expired ??= rule.name;
        continue;
      }
      return rule.action === 'pass' ? null : `${rule.action} ${rule.name}`;
    }
    return null;
  }

  /** Rules of a tier that match now, up to an enforced pass. */
  inForce(tier: string): InForce[] {
    const { source } = this.#connection;
    const matching = this.#snapshot.rules
      .filter((rule) => rule.tier === tier && this.#ruleMatches(rule))
      .filter(
        ({ validFromMs, expiresAtMs }) => this.#nowMs >= (validFromMs ?? 0) && this.#nowMs < (expiresAtMs ?? Infinity),
      )
      .sort((a, b) => a.priority - b.priority)
      .map(({ name, mode, action, rollout }) => {
        const isIn = rolloutBucket(source.identity ?? source.ip, name) < rollout;
        return { name, tier: tier as CompiledRule['tier'], action, isAudited: mode === 'audit' || !isIn };
      });
    const passing = matching.findIndex(({ isAudited, action }) => !isAudited && action === 'pass');
    return passing < 0 ? matching : matching.slice(0, passing);
  }

  isDefaultAudited(): boolean {
    const { destination, port } = this.#connection;
    const { outbound, defaultAction } = this.#snapshot.mesh;
    return (this.#isExternal(destination, port) ? outbound : defaultAction) === 'audit';
  }

  policies(): string | null {
    const outcomes = [this.#authorization(), this.#networkPolicies()];
    return (
      outcomes.find((outcome) => outcome?.startsWith('deny')) ?? outcomes.find((outcome) => outcome !== null) ?? null
    );
  }

  unmatched(): string {
    const { destination, port } = this.#connection;
    const { outbound, defaultAction } = this.#snapshot.mesh;
    const action = this.#isExternal(destination, port) ? outbound : defaultAction;
    return action === 'deny' ? 'deny default' : 'allow default';
  }

  #isExternal({ ip, workload, identity }: Party, port: number | null): boolean {
    const isNamed = this.#snapshot.externals.some(
      ({ name, cidrs, ports }) =>
        name.split('/')[0] === this.#snapshot.mesh.rootNamespace &&
        cidrs.some((cidr) => contains(cidr, ip)) &&
        (port === null || hasPort(ports, port, null)),
    );
    return workload === null && identity === null && !isNamed;
  }

  #ruleMatches(rule: CompiledRule): boolean {
    const { source, destination, port } = this.#connection;
    const isTrusted = rule.action === 'deny' || source.identity !== null;
    return (
      (rule.from.length === 0 || rule.from.some((match) => this.#peerMatches(match, source, isTrusted, null))) &&
      (rule.to.length === 0 || rule.to.some((match) => this.#peerMatches(match, destination, true, port))) &&
      hasPort(rule.ports, port, destination)
    );
  }

  #peerMatches(match: RulePeer, party: Party, isTrusted: boolean, port: number | null): boolean {
    if (isSegmentRef(match)) {
      const segment = this.#snapshot.segments?.find(({ name }) => name === match.memberOf);
      return segment?.members.some((member) => this.#peerMatches(member, party, isTrusted, port)) === true;
    }
    const { ip, identity } = party;
    const known = isTrusted ? party.workload : null;
    const checks = [
      match.namespaces?.includes(known?.namespace ?? ''),
      match.serviceAccounts?.includes(known === null ? '' : `${known.namespace}/${known.serviceAccount}`),
      match.workloads?.includes(known === null ? '' : `${known.namespace}/${known.name}`),
      match.nodes?.includes(known?.node ?? ''),
      match.labels && Object.entries(match.labels).every(([name, value]) => known?.labels[name] === value),
      match.namespaceLabels &&
        Object.entries(match.namespaceLabels).every(
          ([name, value]) => known !== null && this.#labelsOf(known.namespace)[name] === value,
        ),
      match.external && this.#isExternal(party, port),
      match.unauthenticated && identity === null,
      match.cidrs?.some((cidr) => contains(cidr, ip)),
      match.exceptCidrs && !match.exceptCidrs.some((cidr) => contains(cidr, ip)),
    ];
    return checks.every((check) => check !== false);
  }

  #labelsOf(namespace: string): Readonly<Record<string, string>> {
    return { ...this.#snapshot.namespaces[namespace], 'kubernetes.io/metadata.name': namespace };
  }

  #authorization(): string | null {
    const { workload } = this.#connection.destination;
    if (workload === null) return null;
    const selected = this.#snapshot.authorizationPolicies.filter(
      ({ namespace, selector }) =>
        (namespace === workload.namespace || namespace === this.#snapshot.mesh.rootNamespace) &&
        Object.entries(selector).every(([name, value]) => workload.labels[name] === value),
    );
    const matches = (policy: CompiledAuthorizationPolicy) => policyMatches(policy, this.#connection);
    if (selected.some((policy) => policy.action === 'DENY' && matches(policy))) return 'deny authorization';
    const allowing = selected.filter(({ action }) => action === 'ALLOW');
    if (allowing.length === 0) return null;
    return allowing.some(matches) ? 'allow authorization' : 'deny authorization';
  }

  #networkPolicies(): string | null {
    const { source, destination, port } = this.#connection;
    const egress = this.#isolating(source, 'egress');
    const ingress = this.#isolating(destination, 'ingress');
    const allows = (policies: readonly CompiledNetworkPolicy[], direction: 'ingress' | 'egress', peer: Party) =>
      policies.some(({ namespace, [direction]: rules }) =>
        (rules ?? []).some((rule) => this.#networkRuleMatches(rule, namespace, peer, port)),
      );
    if (egress.length > 0 && !allows(egress, 'egress', destination)) return 'deny network';
    const proved = source.identity === null ? { ...source, workload: null } : source;
    if (ingress.length > 0) return allows(ingress, 'ingress', proved) ? 'allow network' : 'deny network';
    return egress.length > 0 && destination.workload === null ? 'allow network' : null;
  }

  #isolating({ workload }: Party, direction: 'ingress' | 'egress'): CompiledNetworkPolicy[] {
    if (workload === null) return [];
    return this.#snapshot.networkPolicies.filter(
      (policy) =>
        policy[direction] !== null &&
        policy.namespace === workload.namespace &&
        meets(policy.podSelector, workload.labels),
    );
  }

  #networkRuleMatches({ peers, ports }: NetworkPolicyRule, namespace: string, peer: Party, port: number): boolean {
    if (!hasPort(ports, port, this.#connection.destination)) return false;
    return peers.length === 0 || peers.some((candidate) => this.#networkPeerMatches(candidate, namespace, peer));
  }

  #networkPeerMatches(peer: NetworkPolicyPeer, namespace: string, { ip, workload }: Party): boolean {
    if (peer.kind === 'block') return contains(peer.cidr, ip) && !peer.except.some((cidr) => contains(cidr, ip));
    if (workload === null) return false;
    const isInNamespace =
      peer.namespaceSelector === null
        ? workload.namespace === namespace
        : meets(peer.namespaceSelector, this.#labelsOf(workload.namespace));
    return isInNamespace && meets(peer.podSelector, workload.labels);
  }
}

function meets(requirements: readonly LabelRequirement[], labels: Readonly<Record<string, string>>): boolean {
  return requirements.every(({ key, operator, values }) => {
    const isThere = key in labels;
    const isListed = isThere && values.includes(labels[key] ?? '');
    return { In: isListed, NotIn: !isListed, Exists: isThere, DoesNotExist: !isThere }[operator];
  });
}

function hasPort(ports: readonly RulePort[], port: number, destination: Party | null): boolean {
  const isIn = (entry: RulePort): boolean =>
    typeof entry === 'string' ? destination?.workload?.ports?.[entry] === port : entry[0] <= port && port <= entry[1];
  return ports.length === 0 || ports.some(isIn);
}

function contains(cidr: string, ip: string): boolean {
  const [network, bits] = ipaddr.parseCIDR(cidr.includes('/') ? cidr : `${cidr}/32`);
  const address = ipaddr.parse(ip);
  return address.kind() === network.kind() && address.match(network, bits);
}

function policyMatches({ rules }: CompiledAuthorizationPolicy, connection: Connection): boolean {
  const { source, port } = connection;
  return rules.some(
    ({ from, to, when = [] }) =>
      (from.length === 0 || from.some((candidate) => sourceMatches(candidate, source))) &&
      (to.length === 0 ||
        to.some(({ ports, notPorts }) => (ports?.includes(port) ?? true) && !(notPorts?.includes(port) ?? false))) &&
      when.every((condition) => conditionHolds(condition, connection)),
  );
}

function conditionHolds({ key, values, notValues }: AuthorizationCondition, connection: Connection): boolean {
  const { source, destination, port } = connection;
  const { principal, namespace, account, trustDomain } = namesOf(source);
  const is = (listed: readonly string[]): boolean => {
    if (key === 'source.ip') return listed.some((cidr) => contains(cidr, source.ip));
    if (key === 'destination.ip') return listed.some((cidr) => contains(cidr, destination.ip));
    if (key === 'destination.port') return listed.includes(String(port));
    if (key === 'source.serviceAccount') return account !== null && listed.includes(account);
    if (key === 'source.trustDomain') return fits(listed, trustDomain);
    return fits(listed, key === 'source.principal' ? principal : namespace);
  };
  return (values === undefined || is(values)) && (notValues === undefined || !is(notValues));
}

function namesOf({ identity }: Party) {
  const principal = identity?.replace('spiffe://', '') ?? null;
  const [trustDomain = null, , namespace = null, , name = null] = principal?.split('/') ?? [];
  return {
    principal,
    trustDomain,
    namespace,
    account: principal === null ? null : `${String(namespace)}/${String(name)}`,
  };
}

function fits(patterns: readonly string[], text: string | null): boolean {
  return text !== null && patterns.some((pattern) => new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(text));
}

function sourceMatches(candidate: AuthorizationSource, source: Party): boolean {
  const { principal, namespace, account, trustDomain } = namesOf(source);
  const { ip } = source;
  return (
    (candidate.principals === undefined || fits(candidate.principals, principal)) &&
    (candidate.notPrincipals === undefined || !fits(candidate.notPrincipals, principal)) &&
    (candidate.serviceAccounts === undefined || fits(candidate.serviceAccounts, account)) &&
    (candidate.notServiceAccounts === undefined || !fits(candidate.notServiceAccounts, account)) &&
    (candidate.namespaces === undefined || fits(candidate.namespaces, namespace)) &&
    (candidate.notNamespaces === undefined || !fits(candidate.notNamespaces, namespace)) &&
    (candidate.trustDomains === undefined || fits(candidate.trustDomains, trustDomain)) &&
    (candidate.notTrustDomains === undefined || !fits(candidate.notTrustDomains, trustDomain)) &&
    (candidate.ipBlocks === undefined || candidate.ipBlocks.some((cidr) => contains(cidr, ip))) &&
    (candidate.notIpBlocks === undefined || !candidate.notIpBlocks.some((cidr) => contains(cidr, ip)))
  );
}
