/** A set of rules that grows in one respect, as people's rules may. The same size gives the same text. */
export type RuleShape = {
  readonly name: string;
  /** Each twice the one before. */
  readonly sizes: readonly number[];
  /** YAML (each document in its JSON form). */
  readonly text: (size: number) => string;
};

const workloads = 200;
const culvert = 'culvert.dev/v1';
const mesh = {
  apiVersion: culvert,
  kind: 'Mesh',
  metadata: { name: 'default' },
  spec: { defaultAction: 'deny' },
};

type Document = object;

function shape(name: string, largest: number, documents: (size: number) => Document[]): RuleShape {
  const sizes = [largest / 4, largest / 2, largest];
  const parties = times(workloads, (index) =>
    workload(`app-${index}`, `172.16.0.${index + 1}`, { app: `app-${index}` }),
  );
  const text = (size: number): string =>
    [mesh, ...parties, ...documents(size)].map((document) => JSON.stringify(document)).join('\n---\n');
  return { name, sizes, text };
}

/** Everything that was once more than linear in its size, or slower to decide with it. */
export const ruleShapes: readonly RuleShape[] = [
  shape('networks of one rule', 20_000, (size) => [
    rule('allow', { to: times(size, (index) => ({ cidr: network(2 * index) })) }),
    rule('deny', { action: 'deny', to: times(size, (index) => ({ cidr: network(2 * index + 1) })) }),
  ]),
  shape('members of a segment, and half as many rules that name it', 4000, (size) => [
    segment(
      'all',
      times(size, (index) => ({ namespace: 'shop', labels: { app: `app-${index}` } })),
    ),
    ...times(size / 2, (index) =>
      rule(`rule-${index}`, { from: [{ segment: 'all' }], to: [account(index)], ports: [80 + (index % 20)] }),
    ),
  ]),
  shape('segments in one rule', 8000, (size) => [
    ...times(size, (index) => segment(`segment-${index}`, [{ labels: { app: `app-${index}` } }])),
    rule('allow', { from: times(size, (index) => ({ segment: `segment-${index}` })) }),
  ]),
  shape('segments inside each other', 8000, (size) => [
    ...times(size, (index) =>
      segment(`segment-${index}`, [account(index), ...(index === 0 ? [] : [{ segment: `segment-${index - 1}` }])]),
    ),
    rule('allow', { from: [{ segment: `segment-${size - 1}` }] }),
  ]),
  shape('rules of one priority', 10_000, (size) =>
    times(size, (index) =>
      rule(`rule-${index}`, {
        action: index % 2 === 0 ? 'allow' : 'deny',
        from: [account(index % 50)],
        to: [{ cidr: network(index) }],
      }),
    ),
  ),
  shape('services in one rule', 4000, (size) => [
    ...times(size, (index) => service(index)),
    rule('allow', { to: times(size, (index) => ({ service: `shop/service-${index}` })) }),
  ]),
  shape('rules by named ports', 8000, (size) =>
    times(size, (index) => rule(`rule-${index}`, { to: [{ namespace: 'shop' }], ports: [`port-${index}`] })),
  ),
  shape('rules with a port each', 8000, (size) =>
    times(size, (index) => rule(`rule-${index}`, { to: [{ namespace: 'shop' }], ports: [1 + index] })),
  ),
  shape('workloads of one segment', 8000, (size) => [
    ...times(size, (index) =>
      workload(`more-${index}`, `172.${20 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`),
    ),
    segment('all', [{ namespace: 'shop' }]),
    rule('allow', { from: [{ segment: 'all' }], to: [{ segment: 'all' }] }),
  ]),
  shape('rules by labels of namespaces', 8000, (size) => [
    ...times(size, (index) => ({
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: `namespace-${index}`, labels: { team: `team-${index}` } },
    })),
    ...times(size, (index) => rule(`rule-${index}`, { from: [{ namespaceLabels: { team: `team-${index}` } }] })),
  ]),
  shape('principal prefixes of one policy', 4000, (size) => [
    authorization('many', { principals: times(size, (index) => `bench.test/ns/team-${index}-*`) }),
  ]),
  shape('principal suffixes of one policy', 4000, (size) => [
    authorization('many', { principals: times(size, (index) => `*/sa/other-${index}`) }),
  ]),
  shape('networks of one policy', 4000, (size) => [
    authorization('many', { ipBlocks: times(size, (index) => network(index)) }),
  ]),
  shape('policies with a prefix each', 4000, (size) =>
    times(size, (index) => authorization(`policy-${index}`, { principals: [`bench.test/ns/team-${index}-*`] })),
  ),
  shape('policies with a network each', 4000, (size) =>
    times(size, (index) => authorization(`policy-${index}`, { ipBlocks: [network(index)] })),
  ),
  shape('policies with a port each', 4000, (size) =>
    times(size, (index) => authorization(`policy-${index}`, { namespaces: ['shop'] }, [String(1 + index)])),
  ),
  shape('networks of one NetworkPolicy', 4000, (size) => [
    networkPolicy(
      'many',
      times(size, (index) => ({
        ipBlock: { cidr: `10.${index >> 8}.${index & 255}.0/24`, except: [`10.${index >> 8}.${index & 255}.128/25`] },
      })),
    ),
  ]),
  shape('peers of one NetworkPolicy', 4000, (size) => [
    networkPolicy(
      'many',
      times(size, (index) => ({
        namespaceSelector: {},
        podSelector: {
          matchExpressions: [
            { key: 'app', operator: 'NotIn', values: times(3, (at) => `app-${at}`) },
            { key: `kind-${index}`, operator: 'Exists' },
          ],
        },
      })),
    ),
  ]),
  shape('NetworkPolicies by NotIn', 2000, (size) =>
    times(size, (index) =>
      networkPolicy(`policy-${index}`, [{ ipBlock: { cidr: network(index) } }], {
        matchExpressions: [{ key: 'app', operator: 'NotIn', values: [`other-${index}`] }],
      }),
    ),
  ),
  shape('cluster policies by labels of namespaces', 2000, (size) =>
    times(size, (index) => ({
      apiVersion: 'policy.networking.k8s.io/v1alpha1',
      kind: 'AdminNetworkPolicy',
      metadata: { name: `policy-${index}` },
      spec: {
        priority: index % 1001,
        subject: { namespaces: {} },
        ingress: [{ action: 'Deny', from: [{ namespaces: { matchLabels: { team: `team-${index}` } } }] }],
      },
    })),
  ),
  shape('ServiceEntries', 4000, (size) =>
    times(size, (index) => ({
      apiVersion: 'networking.istio.io/v1',
      kind: 'ServiceEntry',
      metadata: { name: `entry-${index}`, namespace: 'shop' },
      spec: {
        hosts: [`host-${index}.example`],
        addresses: [network(index)],
        ports: [{ number: 443, name: 'https', protocol: 'TLS' }],
        location: 'MESH_EXTERNAL',
        resolution: 'STATIC',
      },
    })),
  ),
];

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: Math.floor(count) }, (_, index) => make(index));
}

function network(index: number): string {
  return `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}/32`;
}

function account(index: number): object {
  return { serviceAccount: `shop/app-${index}` };
}

function rule(name: string, spec: object): Document {
  return {
    apiVersion: culvert,
    kind: 'SegmentationRule',
    metadata: { name },
    spec: { tier: 'team', action: 'allow', ...spec },
  };
}

function segment(name: string, members: readonly object[]): Document {
  return { apiVersion: culvert, kind: 'Segment', metadata: { name }, spec: { members } };
}

function workload(name: string, address: string, labels: object = {}): Document {
  return {
    apiVersion: culvert,
    kind: 'Workload',
    metadata: { name, namespace: 'shop', labels },
    spec: { serviceAccount: name, addresses: [address], ports: [{ name: 'port-1', port: 81 }] },
  };
}

function service(index: number): Document {
  return {
    apiVersion: culvert,
    kind: 'Service',
    metadata: { name: `service-${index}`, namespace: 'shop' },
    spec: {
      vips: [`10.96.${index >> 8}.${index & 255}`],
      selector: { app: `app-${index}` },
      ports: [{ port: 80, targetPort: 8080 }],
    },
  };
}

/** ALLOW, for all workloads of the namespace. */
function authorization(name: string, source: object, ports?: readonly string[]): Document {
  const to = ports === undefined ? {} : { to: [{ operation: { ports } }] };
  return {
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { action: 'ALLOW', rules: [{ from: [{ source }], ...to }] },
  };
}

function networkPolicy(name: string, from: readonly object[], podSelector: object = {}): Document {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { podSelector, policyTypes: ['Ingress'], ingress: [{ from }] },
  };
}
