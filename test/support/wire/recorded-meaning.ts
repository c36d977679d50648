import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { nodeNamed } from '../routing/names.js';
import { ip, service, workload } from '../routing/registry-entries.js';

/** What the messages of `recorded-messages.ts` mean: everything that an entry, rules and a list can have in that build. */
export const recordedWorkload: WorkloadEntry = {
  ...workload('shop/web', ['198.18.0.1', 'fd00::1'], { app: 'web' }),
  node: nodeNamed('node1'),
  netns: 'pod:uid-web',
  protocol: 'hbone',
  capture: { excludeOutboundPorts: [1], excludeInboundPorts: [2], excludeOutboundCidrs: ['10.0.0.0/8'] },
  ports: { http: 8080 },
  lateAcceptPorts: [8080],
  availability: 'ending',
  locality: { host: 'node1', zone: 'a' },
};

export const recordedService: RegistryService = {
  ...service('shop/web', ['198.18.0.200']),
  ports: [{ port: 80, targetPort: 'http', earlyAccept: false }],
  endpoints: [
    { address: ip('192.0.2.1'), ports: { 80: 8080 }, availability: 'unready', locality: { host: 'node2', zone: 'b' } },
  ],
  takesUnready: true,
  distribution: 'prefer-same-zone',
  isSticky: true,
};

export const recordedSnapshot: Snapshot = {
  revision: 7,
  createdAt: '2026-06-01T00:00:00.000Z',
  createdBy: 'admin',
  trustDomain: 'mesh.test',
  mesh: { defaultAction: 'deny', outbound: 'audit', mtls: 'STRICT', rootNamespace: 'culvert' },
  segments: [{ name: 'databases', members: [{ labels: { app: 'db' } }] }],
  rules: [
    {
      name: 'db-only-from-billing',
      tier: 'team',
      priority: 200,
      action: 'allow',
      mode: 'enforce',
      from: [{ serviceAccounts: ['billing/api'] }, { external: true }],
      to: [{ memberOf: 'databases' }],
      ports: [[5432, 5432], 'http'],
      onChange: { kind: 'drain', graceMs: 30_000 },
      rollout: 50,
      validFromMs: 1_700_000_000_000,
      expiresAtMs: 1_800_000_000_000,
      owner: 'payments',
      reason: 'PCI',
    },
  ],
  authorizationPolicies: [
    {
      namespace: 'billing',
      name: 'only-web',
      action: 'ALLOW',
      dryRun: true,
      selector: {},
      rules: [{ from: [{ principals: ['mesh.test/ns/shop/sa/web'] }], to: [{ ports: [80] }] }],
    },
  ],
  networkPolicies: [
    {
      namespace: 'billing',
      name: 'db',
      podSelector: [{ key: 'app', operator: 'In', values: ['db'] }],
      ingress: [{ peers: [{ kind: 'block', cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] }], ports: [[5432, 5432]] }],
      egress: null,
    },
  ],
  peerAuthentications: [
    { namespace: 'billing', name: 'strict', selector: { app: 'db' }, mode: 'STRICT', ports: { 80: 'PERMISSIVE' } },
  ],
  clusterPolicies: [
    {
      kind: 'ClusterNetworkPolicy',
      name: 'admin',
      tier: 'platform',
      priority: 1,
      subject: { namespaceSelector: [], podSelector: [] },
      ingress: [{ action: 'deny', peers: [{ kind: 'pods', namespaceSelector: null, podSelector: [] }], ports: [] }],
      egress: [],
    },
  ],
  externals: [
    {
      name: 'billing/bank',
      hosts: ['bank.example'],
      cidrs: ['203.0.113.9/32'],
      ports: [[443, 443]],
      lateAcceptPorts: [443],
    },
  ],
  namespaces: { billing: { team: 'payments' } },
};
