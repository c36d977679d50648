import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { LabNode, LabWorkload } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { documents, meshOf, ruleWorld, segmentationRule } from '../support/mesh/rule-world.js';
import { RuledTraffic } from '../support/mesh/ruled-traffic.js';
import { patientMs } from '../lab/patience.js';

/** Documents of Kubernetes and Istio, and the border to the outside, on live traffic. */

let mesh: Mesh;
let traffic: RuledTraffic;
let web: LabWorkload;
let api: LabWorkload;
let visitor: LabWorkload;
let db: LabWorkload;
let cache: LabWorkload;
let vault: LabWorkload;
let outside: LabNode;
let partner: LabNode;

before(async () => {
  mesh = await startMesh({ topology: { ...ruleWorld, externalHosts: ['outside', 'partner'] } });
  traffic = new RuledTraffic({ mesh });
  const workload = (name: string): LabWorkload => mesh.lab.workload(name);
  [web, api, visitor] = [workload('web'), workload('api'), workload('visitor')];
  [db, cache, vault] = [workload('db'), workload('cache'), workload('vault')];
  [outside, partner] = [mesh.lab.host('outside'), mesh.lab.host('partner')];
  await traffic.serve([5432, 6379], [outside, partner]);
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** What the test applied and did not remove, by kind and name. */
const applied = new Map<string, string>();

afterEach(async () => {
  await removed(...applied.values());
});

const keyOf = (document: string): string => /kind: .*\nmetadata: .*/.exec(document)?.[0] ?? document;

async function apply(...texts: readonly string[]): Promise<number> {
  for (const text of texts) applied.set(keyOf(text), text);
  return await mesh.apply(documents(...texts));
}

/** Resolves with the revision that is in force without these. */
async function removed(...texts: readonly string[]): Promise<number> {
  for (const text of texts) applied.delete(keyOf(text));
  if (texts.length === 0) return 0;
  const answer = await mesh.controller.culvertJson(['delete', '-f', '-'], documents(...texts));
  const { revision } = answer as { readonly revision: number };
  await mesh.waitForRevision(revision);
  return revision;
}

const networkPolicy = (namespace: string, name: string, spec: string): string => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`;

const peerAuthentication = (namespace: string, name: string, spec: string): string => `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`;

const denied = (rule: string) => ({ rule, reason: 'POLICY_DEFAULT_DENY' });
const unproved = (rule: string) => ({ rule, reason: 'SOURCE_UNKNOWN' });
const byDefault = 'Mesh/default';

describe('a NetworkPolicy', { timeout: patientMs(120_000) }, () => {
  test('without a rule closes its namespace to everybody, and cuts what is open', async () => {
    const rule = 'NetworkPolicy/shop/closed';
    const [remote, local] = [await traffic.open(visitor, db, 5432), await traffic.open(visitor, api, 5432)];
    const [plain, away] = [await traffic.open(outside, db, 5432), await traffic.open(web, vault, 5432)];
    const close = (): Promise<number> =>
      apply(networkPolicy('shop', 'closed', '{ podSelector: {}, policyTypes: [Ingress] }'));
    const change = close();
    await Promise.all([remote, local, plain].map((open) => traffic.isCut(open, rule, () => change)));
    await away.held.exchange();
    await Promise.all([
      traffic.isRefused(visitor, db, 5432, denied(rule)),
      traffic.isRefused(web, api, 6379, denied(rule)),
      traffic.isRefused(outside, cache, 6379, denied(rule)),
      traffic.passes(web, vault, 5432),
      traffic.passes(web, outside, 5432),
      traffic.passes(outside, vault, 5432),
    ]);
    await removed(...applied.values());
    await Promise.all([traffic.passes(visitor, db, 5432), traffic.passes(outside, db, 5432)]);
  });

  test('admits for ingress only the pods, namespaces, blocks and ports that it names', async () => {
    const rule = 'NetworkPolicy/shop/db';
    const front = '{ podSelector: { matchExpressions: [{ key: app, operator: In, values: [web] }] } }';
    const guests = '{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: guest } } }';
    const block = '{ ipBlock: { cidr: 198.18.0.0/24, except: [198.18.0.202/32] } }';
    const spec = (first: string): string => `{ podSelector: { matchLabels: { app: db } }, ingress: [
      { from: [${first}], ports: [{ port: 5432 }] }, { from: [${guests}, ${block}], ports: [{ port: 6000, endPort: 6400 }] }] }`;
    await apply(networkPolicy('shop', 'db', spec(front)));
    const open = await traffic.open(web, db, 5432);
    const spared = await traffic.open(visitor, db, 6379);
    await Promise.all([
      traffic.passes(web, db, 5432, { rule }),
      traffic.isRefused(web, db, 6379, denied(rule)),
      traffic.isRefused(api, db, 5432, denied(rule)),
      traffic.passes(visitor, db, 6379, { rule }),
      traffic.isRefused(visitor, db, 5432, denied(rule)),
      traffic.passes(outside, db, 6379, { rule }),
      traffic.isRefused(partner, db, 6379, denied(rule)),
      traffic.passes(api, cache, 5432),
    ]);
    const onlyApi = networkPolicy('shop', 'db', spec(front.replace('[web]', '[api]')));
    await traffic.isCut(open, rule, () => apply(onlyApi));
    await traffic.passes(api, db, 5432, { rule });
    await spared.held.exchange();
  });

  test('for egress lets its workloads out to what it names, inside and outside the mesh', async () => {
    const rule = 'NetworkPolicy/shop/out';
    const to = '{ to: [{ podSelector: { matchLabels: { app: db } } }], ports: [{ port: 5432 }] }';
    const block =
      '{ to: [{ ipBlock: { cidr: 198.18.0.0/16, except: [198.18.0.202/32, 198.18.11.0/24, 198.18.12.0/24] } }] }';
    const out = (rules: string): string =>
      networkPolicy('shop', 'out', `{ podSelector: { matchLabels: { app: web } }, policyTypes: [Egress]${rules} }`);
    const [inside, external] = [await traffic.open(web, cache, 5432), await traffic.open(web, outside, 5432)];
    const spared = await traffic.open(web, db, 5432);
    await traffic.isCut(inside, rule, () => apply(out(`, egress: [${to}, ${block}]`)));
    await Promise.all([spared, external].map(({ held }) => held.exchange()));
    await Promise.all([
      // The policy of the source says nothing of what the destination's side wants: the default decides.
      traffic.passes(web, db, 5432),
      traffic.isRefused(web, db, 6379, denied(rule)),
      traffic.isRefused(web, api, 5432, denied(rule)),
      traffic.passes(web, outside, 5432, { rule }),
      traffic.isRefused(web, partner, 5432, denied(rule)),
      traffic.passes(api, partner, 5432),
      traffic.passes(api, web, 5432),
    ]);
    const change = apply(out(''));
    await Promise.all([spared, external].map((open) => traffic.isCut(open, rule, () => change)));
  });

  test('is held by the destination when the agent of the source is behind, and both name it', async () => {
    const node1 = mesh.agent('node1');
    const { ipv4, ipv6 } = mesh.lab.host('controller');
    const barriers = [
      ['iptables', ipv4],
      ['ip6tables', ipv6],
    ] as const;
    const cutOff = async (action: '-I' | '-D'): Promise<void> => {
      for (const [program, controller] of barriers) {
        const reject = ['-d', controller, '-p', 'tcp', '-j', 'REJECT', '--reject-with', 'tcp-reset'];
        await node1.node.check([program, '-w', action, 'OUTPUT', ...reject]);
      }
    };
    const policy = networkPolicy('shop', 'there', '{ podSelector: { matchLabels: { app: db } } }');
    await cutOff('-I');
    try {
      await waitUntil('node1 hears nothing', async () =>
        (await node1.metric('culvert_nats_connected')) === 0 ? true : undefined,
      );
      const { revision } = (await mesh.controller.culvertJson(['apply', '-f', '-'], policy)) as { revision: number };
      applied.set(keyOf(policy), policy);
      await mesh.agent('node2').waitForRevision(revision);
      const record = await traffic.isRefused(web, db, 5432, denied('NetworkPolicy/shop/there'));
      assert.ok(record.revision < revision, 'node1 has heard of it');
      const inbound = await mesh
        .agent('node2')
        .waitForRecord('the refusal', ({ traceId }) => traceId === record.traceId);
      assert.deepEqual(
        [inbound.direction, inbound.reason, inbound.rule, inbound.revision],
        ['inbound', 'POLICY_DEFAULT_DENY', 'NetworkPolicy/shop/there', revision],
      );
    } finally {
      await cutOff('-D');
    }
    await waitUntil(
      'node1 hears again',
      async () => ((await node1.metric('culvert_nats_connected')) === 1 ? true : undefined),
      20_000,
    );
  });
});

test('an AuthorizationPolicy in a dry run refuses nothing, and its counts say what it would have refused', async () => {
  const rule = 'AuthorizationPolicy/shop/trial';
  const trial = (isDry: boolean): string => `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: trial, namespace: shop${isDry ? ', annotations: { istio.io/dry-run: "true" }' : ''} }
spec: { selector: { matchLabels: { app: db } }, action: DENY, rules: [{ from: [{ source: { namespaces: [guest] } }] }] }
`;
  await apply(trial(true));
  await Promise.all([
    traffic.passes(visitor, db, 5432, { audited: [rule] }),
    traffic.passes(web, db, 5432),
    traffic.passes(visitor, cache, 5432),
  ]);
  await removed(trial(true));
  await apply(trial(false));
  await traffic.isRefused(visitor, db, 5432, { rule, reason: 'POLICY_DENY' });
});

describe('a PeerAuthentication', { timeout: patientMs(120_000) }, () => {
  const ofMesh = peerAuthentication('istio-system', 'mesh', '{ mtls: { mode: STRICT } }');

  test('of the root namespace closes the mesh to plaintext, and only to that', async () => {
    const rule = 'PeerAuthentication/istio-system/mesh';
    const [plain, proved] = [await traffic.open(outside, db, 5432), await traffic.open(web, db, 5432)];
    await traffic.isCut(plain, rule, () => apply(ofMesh));
    await proved.held.exchange();
    await Promise.all([
      traffic.isRefused(outside, db, 5432, unproved(rule)),
      traffic.isRefused(outside, web, 6379, unproved(rule)),
      traffic.passes(web, db, 5432),
      traffic.passes(web, outside, 5432),
    ]);
  });

  test('of a namespace, of a workload and of a port goes before the wider one', async () => {
    const everywhere = 'PeerAuthentication/istio-system/mesh';
    const rule = 'PeerAuthentication/shop/db';
    const ops = peerAuthentication('ops', 'open', '{ mtls: { mode: PERMISSIVE } }');
    const ofDb = (modes: string): string =>
      peerAuthentication('shop', 'db', `{ selector: { matchLabels: { app: db } }, ${modes} }`);
    await apply(ofMesh, ops, ofDb('mtls: { mode: PERMISSIVE }'));
    const [first, second] = [await traffic.open(outside, db, 5432), await traffic.open(outside, db, 6379)];
    await Promise.all([
      traffic.passes(outside, vault, 5432),
      traffic.isRefused(outside, cache, 5432, unproved(everywhere)),
      traffic.passes(outside, db, 5432),
    ]);
    const strictPort = ofDb('mtls: { mode: PERMISSIVE }, portLevelMtls: { 5432: { mode: STRICT } }');
    await traffic.isCut(first, rule, () => apply(strictPort));
    await second.held.exchange();
    await Promise.all([
      traffic.isRefused(outside, db, 5432, unproved(rule)),
      traffic.passes(outside, db, 6379),
      traffic.passes(web, db, 5432),
    ]);
    const openPort = ofDb('mtls: { mode: STRICT }, portLevelMtls: { 5432: { mode: PERMISSIVE } }');
    await traffic.isCut(second, rule, () => apply(openPort));
    await Promise.all([traffic.passes(outside, db, 5432), traffic.isRefused(outside, db, 6379, unproved(rule))]);
  });
});

describe('the border of the mesh', { timeout: patientMs(120_000) }, () => {
  const bordered = (outbound: string): string => meshOf(`{ defaultAction: allow, outbound: ${outbound} }`);
  const entryOf = (namespace: string, address: string): string => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: partner, namespace: ${namespace} }
spec: { hosts: [partner.example], addresses: [${address}], ports: [{ number: 5432 }] }
`;
  const entry = entryOf('istio-system', '198.18.0.202');

  test('is open, audited or closed, as outbound says', async () => {
    const node1 = mesh.agent('node1');
    const isFree = await traffic.open(web, outside, 5432);
    await apply(bordered('allow'));
    await traffic.passes(web, outside, 5432);
    const count = (): Promise<number> => node1.metric('culvert_connections_audited_total', { rule: byDefault });
    const countBefore = await count();
    await apply(bordered('audit'));
    await traffic.passes(web, outside, 5432, { audited: [byDefault] });
    await traffic.passes(web, db, 5432);
    await isFree.held.exchange();
    await waitUntil('the audited one is counted', async () => ((await count()) > countBefore ? true : undefined));
    await traffic.isCut(isFree, byDefault, () => apply(bordered('deny')));
    await Promise.all([
      traffic.isRefused(web, outside, 5432, denied(byDefault)),
      traffic.isRefused(db, partner, 6379, denied(byDefault)),
      traffic.passes(web, db, 5432),
      traffic.passes(web, api, 5432),
      traffic.passes(outside, db, 5432),
    ]);
  });

  test('holds for what a ServiceEntry of one namespace names: only the root namespace opens it', async () => {
    await apply(entryOf('shop', '198.18.0.0/16'), bordered('deny'));
    const refused = await traffic.isRefused(web, partner, 5432, denied(byDefault));
    assert.equal(refused.service, 'shop/partner');
    const denyOut = segmentationRule('no-out', '{ tier: platform, action: deny, to: [{ external: true }] }');
    await apply(denyOut, bordered('allow'));
    const rule = 'SegmentationRule/no-out';
    await traffic.isRefused(web, partner, 5432, { rule, reason: 'POLICY_DENY' });
    await removed(denyOut);
    await removed(entryOf('shop', '198.18.0.0/16'));
  });

  test('does not hold for what a ServiceEntry names, which rules can name too', async () => {
    await apply(entry, bordered('deny'));
    const open = await traffic.open(web, partner, 5432);
    const record = await traffic.passes(web, partner, 5432);
    assert.equal(record.service, 'istio-system/partner');
    await Promise.all([
      traffic.isRefused(web, partner, 6379, denied(byDefault)),
      traffic.isRefused(web, outside, 5432, denied(byDefault)),
    ]);
    const noApi = segmentationRule(
      'no-api',
      '{ action: deny, from: [{ workload: shop/api }], to: [{ service: istio-system/partner }] }',
    );
    await apply(noApi);
    const rule = 'SegmentationRule/no-api';
    const refused = await traffic.isRefused(api, partner, 5432, { rule, reason: 'POLICY_DENY' });
    assert.equal(refused.service, 'istio-system/partner');
    await open.held.exchange();
    await removed(noApi);
    await traffic.isCut(open, byDefault, () => removed(entry));
    await traffic.isRefused(web, partner, 5432, denied(byDefault));
  });
});
