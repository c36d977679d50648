/**
 * A mesh of a given size as documents like a user's: applications with a few replicas each, five per namespace, and rules
 * that mostly name two service accounts and a port. The same size gives the same text.
 */
export type RuleDocuments = {
  /** YAML (each document in its JSON form), with this many workloads and rules. */
  readonly text: string;
  /** Ports that the rules name. */
  readonly ports: readonly number[];
};

export type RuleDocumentsSize = {
  /** SegmentationRules, AuthorizationPolicies and NetworkPolicies together. */
  readonly rules: number;
  readonly workloads: number;
  readonly node: string;
};

const replicas = 5;
const appsPerNamespace = 5;
const segmentCount = 40;
const ports = [80, 443, 3306, 5432, 6379, 8080, 9090, 9092];
const teams = ['payments', 'orders', 'search', 'data'];
const zones = ['green', 'blue'];

type App = { readonly namespace: string; readonly name: string };

export function ruleDocuments({ rules, workloads, node }: RuleDocumentsSize): RuleDocuments {
  const apps = Array.from({ length: Math.ceil(workloads / replicas) }, (_, index) => appAt(index));
  const documents: unknown[] = [
    {
      apiVersion: 'culvert.dev/v1',
      kind: 'Mesh',
      metadata: { name: 'default' },
      spec: { defaultAction: 'deny' },
    },
    ...Array.from({ length: segmentCount }, (_, index) => segment(index, apps)),
  ];
  for (let index = 0; index < workloads; index += 1) documents.push(workload(index, apps, node));
  for (let index = 0; index < rules; index += 1) documents.push(rule(index, apps));
  return { text: documents.map((document) => JSON.stringify(document)).join('\n---\n'), ports };
}

/** A pseudo-random value of the list that depends only on the index. */
function pick<T>(values: readonly T[], index: number, salt: number): T {
  const spread = Math.imul(index + 1, 0x9e3779b1) ^ Math.imul(salt + 1, 0x85ebca6b);
  const mixed = Math.imul(spread ^ (spread >>> 15), 0x2c1b3c6d) >>> 0;
  const value = values[((mixed ^ (mixed >>> 13)) >>> 0) % values.length];
  if (value === undefined) throw new RangeError('there is nothing to pick from');
  return value;
}

function appAt(index: number): App {
  return { namespace: `ns-${Math.floor(index / appsPerNamespace)}`, name: `app-${index % appsPerNamespace}` };
}

function account({ namespace, name }: App): { serviceAccount: string } {
  return { serviceAccount: `${namespace}/${name}` };
}

function workload(index: number, apps: readonly App[], node: string): unknown {
  const { namespace, name } = apps[Math.floor(index / replicas)] ?? appAt(0);
  const labels = { app: name, team: pick(teams, index, 1), zone: pick(zones, index, 2) };
  const address = `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'Workload',
    metadata: { name: `${name}-${index % replicas}`, namespace, labels },
    spec: { serviceAccount: name, addresses: [address], node },
  };
}

function segment(index: number, apps: readonly App[]): unknown {
  const members = [
    { namespace: pick(apps, index, 3).namespace, labels: { zone: pick(zones, index, 4) } },
    account(pick(apps, index, 5)),
    { cidr: `172.16.${index}.0/24` },
  ];
  return { apiVersion: 'culvert.dev/v1', kind: 'Segment', metadata: { name: `segment-${index}` }, spec: { members } };
}

/**
 * Of a hundred: 45 by account, 10 by labels, 10 by segment, 7 by CIDR, 2 denials, 1 baseline, 15 AuthorizationPolicies
 * and 10 NetworkPolicies, of which a few are of a whole namespace.
 */
function rule(index: number, apps: readonly App[]): unknown {
  const [from, to] = [pick(apps, index, 6), pick(apps, index, 7)];
  const port = pick(ports, index, 8);
  const kind = index % 100;
  if (kind >= 90) return networkPolicy(index, from, to, port);
  if (kind >= 75) return authorizationPolicy(index, from, to, port);
  return {
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: `rule-${index}` },
    spec: segmentationRule(kind, index, from, to, port),
  };
}

function segmentationRule(kind: number, index: number, from: App, to: App, port: number): unknown {
  const team = { tier: 'team', action: 'allow', ports: [port] };
  if (kind < 45) return { ...team, from: [account(from)], to: [account(to)] };
  if (kind < 55) {
    const labelled = { namespace: from.namespace, labels: { team: pick(teams, index, 9) } };
    return { ...team, from: [labelled], to: [{ namespace: to.namespace, labels: { app: to.name } }] };
  }
  if (kind < 65) {
    const names = [10, 11].map((salt) => `segment-${pick(segmentNumbers, index, salt)}`);
    return { ...team, from: [{ segment: names[0] }], to: [{ segment: names[1] }] };
  }
  if (kind < 72) {
    const network = `203.0.${pick(segmentNumbers, index, 12)}.0/24`;
    return { ...team, from: [account(from)], to: [{ cidr: network, except: [network.replace('.0/24', '.128/25')] }] };
  }
  if (kind < 74) {
    return {
      tier: 'platform',
      action: 'deny',
      from: [{ namespace: from.namespace }],
      to: [account(to)],
      ports: [port],
    };
  }
  return { tier: 'baseline', action: 'deny', from: [{ external: true }], to: [{ namespace: to.namespace }] };
}

const segmentNumbers = Array.from({ length: segmentCount }, (_, index) => index);

/** Two of fifteen deny; one of fifteen selects all workloads of its namespace. */
function authorizationPolicy(index: number, from: App, to: App, port: number): unknown {
  const kind = index % 100;
  const principal = `bench.test/ns/${from.namespace}/sa/${from.name}`;
  const selector = kind === 77 ? {} : { selector: { matchLabels: { app: to.name } } };
  const source = kind % 2 === 0 ? { principals: [principal] } : { namespaces: [from.namespace] };
  const rules = [{ from: [{ source }], to: [{ operation: { ports: [String(port)] } }] }];
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: `policy-${index}`, namespace: to.namespace },
    spec: { ...selector, action: kind < 77 ? 'DENY' : 'ALLOW', rules },
  };
}

/** One of ten restricts egress to one application. */
function networkPolicy(index: number, from: App, to: App, port: number): unknown {
  const isEgress = index % 100 === 99;
  const [own, other] = isEgress ? [from, to] : [to, from];
  const namespaceSelector = { matchLabels: { 'kubernetes.io/metadata.name': other.namespace } };
  const peers = [{ namespaceSelector, podSelector: { matchLabels: { app: other.name } } }];
  const allowed = { ports: [{ protocol: 'TCP', port }] };
  const direction = isEgress
    ? { policyTypes: ['Egress'], egress: [{ ...allowed, to: peers }] }
    : { policyTypes: ['Ingress'], ingress: [{ ...allowed, from: peers }] };
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: `policy-${index}`, namespace: own.namespace },
    spec: { podSelector: { matchLabels: { app: own.name } }, ...direction },
  };
}
