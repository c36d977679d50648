import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { StatusAnswer, WhyAnswer } from '../../../../controller/api/api-types.js';
import { renderChanges } from '../../../../controller/cli/commands/apply-command.js';
import {
  formatAge,
  formatExpiry,
  formatLeft,
  formatSkew,
  formatSpan,
} from '../../../../controller/cli/view/format-time.js';
import { renderRemoved } from '../../../../controller/cli/commands/node-command.js';
import { renderNode } from '../../../../controller/cli/commands/nodes-command.js';
import { renderDocuments } from '../../../../controller/cli/view/output-format.js';
import { renderWhy } from '../../../../controller/cli/view/render-why.js';
import { renderResources } from '../../../../controller/cli/view/resource-columns.js';
import { renderStatus } from '../../../../controller/cli/commands/status-command.js';
import { renderTable } from '../../../../controller/cli/view/table.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { api, db, ip } from '../../../support/rules/policy-fixture.js';
import { formatRuleRef } from '../../../../shared/policy/connection.js';
import { nodeNamed } from '../../../support/routing/names.js';

const nowMs = Date.parse('2026-01-01T01:00:00Z');
const appliedAt = '2026-01-01T00:55:00Z';

describe('renderTable', () => {
  it('aligns columns, shows empty cells and leaves no space at the end', () => {
    assert.equal(
      renderTable(
        ['A', 'LONG', 'B'],
        [
          ['xx', '', 'y'],
          ['', 'z', ''],
        ],
      ),
      'A   LONG  B\nxx  -     y\n-   z     -',
    );
  });

  it('shows no control character that an agent may have sent', () => {
    assert.equal(renderTable(['A'], [['x\u001B[2J\ny\u202E']]), 'A\nx?[2J?y?');
  });
});

describe('times', () => {
  it('are the largest unit, rounded down', () => {
    assert.deepEqual([500, 1000, 119_000, 7_200_000, 259_200_000].map(formatSpan), ['0s', '1s', '1m', '2h', '3d']);
  });

  it('say what is past and what is to come', () => {
    assert.equal(formatAge(nowMs - 5000, nowMs), '5s ago');
    assert.equal(formatAge(nowMs + 5000, nowMs), '0s ago');
    assert.equal(formatAge(null, nowMs), '');
    assert.equal(formatExpiry(nowMs + 90_000, nowMs), 'in 1m 30s');
    assert.deepEqual([7_199_900, 7_140_000, 3_600_000, 100_000_000, 400, 0].map(formatLeft), [
      '2h',
      '1h 59m',
      '1h',
      '1d 3h',
      '0s',
      '0s',
    ]);
    assert.equal(formatExpiry(nowMs - 90_000, nowMs), 'expired 1m ago');
    assert.deepEqual([12.4, -3000, null].map(formatSkew), ['+12ms', '-3s', '']);
  });
});

describe('culvert apply', () => {
  const change = { kind: 'Workload', namespace: 'billing', name: 'api', change: 'created' } as const;
  it('prints a line for each document and the revision', () => {
    assert.equal(
      renderChanges({ revision: 7, inventory: { sequence: 31, changes: 1 }, dryRun: false, changes: [change] }),
      'Workload/billing/api created\nrevision 7, inventory 31',
    );
    const rule = { kind: 'Segment', namespace: null, name: 'batch', change: 'created' } as const;
    assert.equal(
      renderChanges({ revision: 8, inventory: { sequence: 31, changes: 0 }, dryRun: false, changes: [rule] }),
      'Segment/batch created\nrevision 8',
    );
  });

  it('marks a dry run', () => {
    const text = renderChanges({
      revision: 6,
      inventory: { sequence: 30, changes: 1 },
      dryRun: true,
      changes: [change],
    });
    assert.equal(text, 'Workload/billing/api created (dry run)\nrevision 6 stays in force');
  });
});

describe('culvert get', () => {
  const documents = `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: api, namespace: billing, labels: { app: api } }
spec: { serviceAccount: api, addresses: [198.18.0.1, "fd00::1"], node: host-a, netns: api }
---
apiVersion: culvert.dev/v1
kind: Service
metadata: { name: api, namespace: billing }
spec: { vips: [198.19.0.1], ports: [{ port: 80, targetPort: 8080 }, { port: 81 }], selector: { app: api } }
---
apiVersion: culvert.dev/v1
kind: Segment
metadata: { name: batch }
spec: { members: [{ namespace: a, labels: { x: "1" } }, { cidr: 10.0.0.0/8, except: [10.1.0.0/16] }, { node: n }, { workload: a/b }] }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: rule }
spec: { action: deny, from: [{ segment: batch }], ports: [1, "2-3"] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: policy, namespace: billing }
spec: { selector: { matchLabels: { app: api } }, rules: [{}] }
---
apiVersion: culvert.dev/v1
kind: Mesh
metadata: { name: default }
spec: {}
---
apiVersion: v1
kind: Namespace
metadata: { name: billing, labels: { team: payments } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: bank, namespace: billing }
spec: { hosts: [bank.example], addresses: [203.0.113.9, 203.0.113.64/26], ports: [{ number: 443, name: tls }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: db, namespace: billing }
spec:
  host: db
  trafficPolicy:
    loadBalancer: { simple: LEAST_REQUEST }
    portLevelSettings: [{ port: { number: 81 }, loadBalancer: { consistentHash: { useSourceIp: true } } }, { port: { number: 82 } }]
  subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }]
  exportTo: [".", shop]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: db, namespace: billing }
spec:
  hosts: [db]
  tcp:
    - match: [{ port: 80 }]
      route: [{ destination: { host: db, subset: v1 }, weight: 90 }, { destination: { host: db, subset: v2 }, weight: 10 }]
    - route: [{ destination: { host: db } }]
---
apiVersion: culvert.dev/v1
kind: RateLimit
metadata: { name: db, namespace: billing }
spec: { host: db, from: [{ serviceAccount: billing/api }], connectionsPerSecond: 12, maxConnections: 9 }
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: db, namespace: billing }
spec:
  parentRefs: [{ group: '', kind: Service, name: db, port: 80 }, { group: '', kind: Service, name: all, namespace: shop }]
  rules: [{ backendRefs: [{ name: db, port: 80, weight: 9 }, { name: next, namespace: shop, port: 81 }] }]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: { name: billing, namespace: shop }
spec:
  from: [{ group: gateway.networking.k8s.io, kind: TCPRoute, namespace: billing }]
  to: [{ group: '', kind: Service }, { group: '', kind: Service, name: next }]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: db, namespace: billing }
spec: { selector: { matchLabels: { app: db } }, mtls: { mode: STRICT }, portLevelMtls: { 9090: { mode: PERMISSIVE } } }
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: db, namespace: billing }
spec: { podSelector: { matchExpressions: [{ key: app, operator: In, values: [a, b] }] }, ingress: [{}] }
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: ops }
spec:
  tier: Admin
  priority: 10
  subject: { pods: { namespaceSelector: { matchLabels: { team: a } }, podSelector: { matchLabels: { app: db } } } }
  ingress: [{ action: Accept, from: [{ namespaces: {} }] }]
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: { name: ops }
spec: { priority: 20, subject: { namespaces: {} }, egress: [{ action: Deny, to: [{ networks: [10.0.0.0/8] }] }] }
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: { name: default }
spec: { subject: { namespaces: { matchLabels: { team: a } } } }
`;
  const { resources } = parseDocuments(documents);
  const tables: Readonly<Record<Resource['kind'], readonly string[]>> = {
    Workload: [
      'NAMESPACE  NAME  SERVICE ACCOUNT  ADDRESSES           NODE    NETNS  REVISION  APPLIED',
      'billing    api   api              198.18.0.1,fd00::1  host-a  api    7         5m ago',
    ],
    Service: [
      'NAMESPACE  NAME  VIPS        PORTS       SELECTOR  REVISION  APPLIED',
      'billing    api   198.19.0.1  80→8080,81  app=api   7         5m ago',
    ],
    TCPRoute: [
      'NAMESPACE  NAME  SERVICES        BACKENDS              REVISION  APPLIED',
      'billing    db    db:80,shop/all  db:80=9/shop/next:81  7         5m ago',
    ],
    ReferenceGrant: [
      'NAMESPACE  NAME     FROM                  TO                    REVISION  APPLIED',
      'shop       billing  TCPRoutes of billing  Service,Service/next  7         5m ago',
    ],
    Segment: [
      'NAME   MEMBERS                                     REVISION  APPLIED',
      'batch  ns:a&x=1,10.0.0.0/8&-10.1.0.0/16,node:n,+1  7         5m ago',
    ],
    SegmentationRule: [
      'NAME  TIER  PRIORITY  ACTION  MODE     FROM       TO   PORTS  REVISION  APPLIED',
      'rule  team  1000      deny    enforce  seg:batch  any  1,2-3  7         5m ago',
    ],
    AuthorizationPolicy: [
      'NAMESPACE  NAME    ACTION  SELECTOR  RULES  REVISION  APPLIED',
      'billing    policy  ALLOW   app=api   1      7         5m ago',
    ],
    Mesh: [
      'NAME     DEFAULT ACTION  OUTBOUND  MTLS        ROOT NAMESPACE  REVISION  APPLIED',
      'default  allow           allow     PERMISSIVE  istio-system    7         5m ago',
    ],
    Namespace: ['NAME     LABELS         REVISION  APPLIED', 'billing  team=payments  7         5m ago'],
    ServiceEntry: [
      'NAMESPACE  NAME  HOSTS         ADDRESSES                    PORTS  REVISION  APPLIED',
      'billing    bank  bank.example  203.0.113.9,203.0.113.64/26  443    7         5m ago',
    ],
    DestinationRule: [
      'NAMESPACE  NAME  HOST  BALANCING      PORTS                          SUBSETS  EXPORT TO  REVISION  APPLIED',
      'billing    db    db    LEAST_REQUEST  81:useSourceIp,82:UNSPECIFIED  v1,v2    .,shop     7         5m ago',
    ],
    VirtualService: [
      'NAMESPACE  NAME  HOST  ROUTES           EXPORT TO  REVISION  APPLIED',
      'billing    db    db    v1:90/v2:10,all  *          7         5m ago',
    ],
    RateLimit: [
      'NAMESPACE  NAME  HOST  PORTS  FROM            PER   LIMIT                           MODE     REVISION  APPLIED',
      'billing    db    db    any    sa:billing/api  pair  12 a second (burst 12), 9 open  enforce  7         5m ago',
    ],
    PeerAuthentication: [
      'NAMESPACE  NAME  MODE    SELECTOR  PORTS            REVISION  APPLIED',
      'billing    db    STRICT  app=db    9090:PERMISSIVE  7         5m ago',
    ],
    NetworkPolicy: [
      'NAMESPACE  NAME  SELECTOR    TYPES    INGRESS  EGRESS  REVISION  APPLIED',
      'billing    db    app In a|b  Ingress  1        0       7         5m ago',
    ],
    ClusterNetworkPolicy: [
      'NAME  TIER   PRIORITY  SUBJECT            INGRESS  EGRESS  REVISION  APPLIED',
      'ops   Admin  10        ns[team=a]&app=db  1        0       7         5m ago',
    ],
    AdminNetworkPolicy: [
      'NAME  PRIORITY  SUBJECT  INGRESS  EGRESS  REVISION  APPLIED',
      'ops   20        any      0        1       7         5m ago',
    ],
    BaselineAdminNetworkPolicy: [
      'NAME     SUBJECT     INGRESS  EGRESS  REVISION  APPLIED',
      'default  ns[team=a]  0        0       7         5m ago',
    ],
  };
  for (const resource of resources) {
    it(`shows a ${resource.kind} as a row`, () => {
      const text = renderResources(resource.kind, [{ resource, revision: 7, appliedAt, appliedBy: 'admin' }], nowMs);
      assert.deepEqual(text.split('\n'), tables[resource.kind]);
    });
  }

  it('shows rules in the order in which they are evaluated', () => {
    const written = [
      ['a', 'baseline', 1],
      ['b', 'team', 200],
      ['c', 'team', 100],
      ['d', 'platform', 900],
    ].map(([name, tier, priority]) => ({
      apiVersion: 'culvert.dev/v1',
      kind: 'SegmentationRule',
      metadata: { name },
      spec: { tier, priority, action: 'deny', ports: [22] },
    }));
    const { resources: rules, problems } = parseDocuments(written.map((rule) => JSON.stringify(rule)).join('\n---\n'));
    assert.deepEqual(problems, []);
    const items = rules.map((resource) => ({ resource, revision: 7, appliedAt, appliedBy: 'admin' }));
    const [, ...rows] = renderResources('SegmentationRule', items, nowMs).split('\n');
    assert.equal(rows.map((row) => row[0]).join(''), 'dcba');
  });

  it('writes YAML that can be applied again', () => {
    assert.deepEqual(parseDocuments(renderDocuments(resources)).resources, resources);
  });
});

const agent: StatusAnswer['agents'][number] = {
  node: nodeNamed('host-a'),
  joinedAtMs: nowMs - 3_600_000,
  lastSeenMs: nowMs - 2000,
  clockSkewMs: -12,
  state: 'pending',
  revisionLag: 1,
  isClockWrong: false,
  nextCertificateExpiryMs: nowMs + 36_000_000,
  heartbeat: {
    node: nodeNamed('host-a'),
    version: '0.1.0',
    appliedRevision: 6,
    enforcedByAllWorkers: true,
    registrySequence: 3,
    nowMs,
    startedAtMs: nowMs - 60_000,
    pending: ['rules'],
    workloads: [
      { name: 'billing/api', captured: true, certificateNotAfterMs: nowMs + 36_000_000, problem: null },
      { name: 'billing/db', captured: false, certificateNotAfterMs: null, problem: 'the namespace is gone' },
    ],
  },
};

describe('culvert status', () => {
  const answer: StatusAnswer = {
    controller: {
      version: '0.1.0',
      trustDomain: 'mesh.test',
      startedAt: '2026-01-01T00:00:00Z',
      pending: ['nats'],
      issuingCaNotAfter: '2026-12-31T00:00:00Z',
    },
    revision: 7,
    inventorySequence: 30,
    appliedAt,
    appliedBy: 'admin',
    warnings: [],
    breakGlass: [],
    agents: [
      agent,
      {
        ...agent,
        node: nodeNamed('b'),
        state: 'joined',
        heartbeat: null,
        lastSeenMs: null,
        clockSkewMs: null,
        revisionLag: null,
        nextCertificateExpiryMs: null,
      },
    ],
  };

  it('shows what is in force, each agent, and what they wait for', () => {
    assert.deepEqual(renderStatus(answer, nowMs).split('\n'), [
      'controller  0.1.0, trust domain mesh.test, started 1h ago',
      'revision    7, applied 5m ago by admin',
      'issuing CA  expires in 363d',
      'waits for   nats',
      '',
      'NODE    STATE    REVISION  LAG  CAPTURED  CERTIFICATES  CLOCK  SEEN',
      'host-a  pending  6         1    1/2       in 10h        -12ms  2s ago',
      'b       joined   -         -    -         -             -      -',
      'host-a is waiting for rules',
      'host-a: billing/db: the namespace is gone',
    ]);
  });

  it('shows what rules an agent refused, so that an alarm is not overlooked', () => {
    assert.ok(agent.heartbeat !== null);
    const heartbeat = { ...agent.heartbeat, rulesAlarm: 'the rules pointer cannot be read' };
    const { agents, ...rest } = answer;
    const shown = renderStatus({ ...rest, agents: [{ ...agent, heartbeat }, ...agents.slice(1)] }, nowMs).split('\n');
    assert.equal(shown[8], 'ALARM: host-a rejects the rules in NATS: the rules pointer cannot be read');
    const behind = { ...agent.heartbeat, passedOver: ['destinationRules.policy.colour', 'reviews'] };
    assert.match(
      renderStatus({ ...rest, agents: [{ ...agent, heartbeat: behind }] }, nowMs),
      /^host-a is too old for destinationRules\.policy\.colour, reviews of the rules, and goes on without$/m,
    );
    const old = { ...agent.heartbeat, rulesAgeProblem: 'the rules may be old' };
    assert.match(
      renderStatus({ ...rest, agents: [{ ...agent, heartbeat: old }] }, nowMs),
      /^ALARM: host-a: the rules may be old$/m,
    );
  });

  it('says how the first agent joins', () => {
    assert.match(
      renderStatus({ ...answer, agents: [] }, nowMs),
      /No agent has joined: culvert token create --node NAME$/,
    );
  });
});

describe('culvert nodes', () => {
  it('shows the workloads of one node', () => {
    assert.deepEqual(renderNode(agent, nowMs).split('\n'), [
      'NODE    STATE    VERSION  WORKLOADS  STARTED  JOINED  SEEN',
      'host-a  pending  0.1.0    2          1m ago   1h ago  2s ago',
      '',
      'WORKLOAD     CAPTURED  CERTIFICATE  PROBLEM',
      'billing/api  yes       in 10h       -',
      'billing/db   no        -            the namespace is gone',
    ]);
  });
});

describe('culvert why', () => {
  const rule = { kind: 'SegmentationRule', name: 'db', tier: 'team' } as const;
  const answer: WhyAnswer = {
    facts: { source: api, destination: db, port: 5432 },
    service: 'billing/databases',
    enforcedBy: ['source', 'destination'],
    decision: {
      verdict: 'deny',
      reason: 'POLICY_DENY',
      rule,
      onChange: { kind: 'terminate' },
      audited: [{ kind: 'SegmentationRule', name: 'audit' }],
      trace: [{ stage: 'team', rule, outcome: 'deny', detail: 'any source' }],
    },
    notes: ['A note.'],
    revision: 7,
    appliedBy: 'admin',
    appliedAt,
    ruleApplied: null,
    nearMisses: [],
    others: [],
  };

  it('shows the verdict, the rule, both sides, the trace and who applied it', () => {
    assert.deepEqual(renderWhy(answer, nowMs).split('\n'), [
      'DENIED  POLICY_DENY  SegmentationRule/db (tier team)',
      'A rule denies this connection.',
      '',
      '  source       billing/api, spiffe://mesh.test/ns/billing/sa/api at 198.18.0.1',
      '  destination  billing/db, spiffe://mesh.test/ns/billing/sa/db at 198.18.0.2:5432 through service billing/databases',
      '  enforced by  the agent of the source and that of the destination',
      '  audited      SegmentationRule/audit',
      '  note         A note.',
      '',
      '  STAGE  OUTCOME  RULE                 WHY',
      '  team   deny     SegmentationRule/db  any source',
      '',
      `revision 7, applied by admin 5m ago (${appliedAt})`,
    ]);
  });

  it('explains each connection that is decided otherwise, and the near misses of all', () => {
    const miss = (text: string) => ({
      side: 'source' as const,
      fact: 'label app',
      is: null,
      wouldBe: 'x',
      verdict: 'allow' as const,
      rule: formatRuleRef({ kind: 'SegmentationRule', name: 'db' }),
      text,
    });
    const allowed = { kind: 'SegmentationRule', name: 'spare', tier: 'team' } as const;
    const spare = {
      ...answer,
      facts: { ...answer.facts, destination: { ...db, ip: ip('198.18.0.9') } },
      decision: {
        ...answer.decision,
        verdict: 'allow' as const,
        reason: 'OK' as const,
        rule: allowed,
        trace: [{ stage: 'team' as const, rule: allowed, outcome: 'allow' as const, detail: 'port 5432' }],
      },
      ruleApplied: { revision: 3, appliedAt, appliedBy: 'eve' },
      nearMisses: [miss('of the spare'), miss('of both')],
    };
    const same = { ...answer, nearMisses: [miss('of both'), miss('of the third')] };
    const text = renderWhy({ ...answer, nearMisses: [miss('of both')], others: [spare, same] }, nowMs);
    assert.match(
      text,
      /^DENIED {2}POLICY_DENY {2}SegmentationRule\/db [^]*\n\nALLOWED {2}OK {2}SegmentationRule\/spare /,
    );
    assert.match(
      text,
      /at 198\.18\.0\.9:5432 through service billing\/databases\n[^]*team +allow +SegmentationRule\/spare +port 5432/,
    );
    assert.equal(text.match(/^DENIED/gm)?.length, 1, 'what is decided alike is explained once');
    assert.match(text, /\nNear misses:\n {2}of both\n {2}of the spare\n {2}of the third\n\n/);
    assert.match(text, /\nSegmentationRule\/spare, applied by eve 5m ago with revision 3\n/);
    assert.match(text, /2 more connections match:/);
  });

  it('lists the other connections that the words mean', () => {
    const text = renderWhy({ ...answer, others: [answer] }, nowMs);
    assert.match(
      text,
      /1 more connection matches:\n {2}VERDICT {2}SOURCE .*\n {2}DENIED {3}billing\/api {2}billing\/db:5432 {2}SegmentationRule\/db \(tier team\)$/,
    );
  });
});

describe('renderRemoved', () => {
  it('does not call a credential revoked that nats-server still takes', () => {
    const removed = { node: 'host-a', tokensRevoked: 0, workloads: [], identities: 'withdrawn' } as const;
    const text = renderRemoved({ ...removed, nats: { kind: 'pending', problem: 'ENOSPC' } });
    assert.match(
      text,
      /still valid.*has not taken over the revocation: ENOSPC\nthe controller tries again every minute/,
    );
    assert.equal(renderRemoved({ ...removed, nats: { kind: 'revoked' } }), 'node host-a removed');
    const pending = renderRemoved({ ...removed, identities: 'pending', nats: { kind: 'revoked' } });
    assert.match(pending, /their certificates are still accepted, because the registry could not be written/);
  });
});
