import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import { registryEntries } from '../../../../controller/inventory/registry-entries.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';

const meta = { revision: 7, createdAt: '2026-01-01T00:00:00Z', createdBy: 'admin', trustDomain: 'mesh.test' };

function resourcesOf(...documents: readonly object[]) {
  const text = documents
    .map((document) => JSON.stringify({ apiVersion: 'culvert.dev/v1', ...document }))
    .join('\n---\n');
  const { resources, problems } = parseDocuments(text);
  assert.deepEqual(problems, []);
  return resources;
}

function compile(...documents: readonly object[]): Snapshot {
  const compiled = compileSnapshot(resourcesOf(...documents), meta);
  assert.ok('snapshot' in compiled);
  assert.deepEqual(snapshotSchema.parse(JSON.parse(JSON.stringify(compiled.snapshot))), compiled.snapshot);
  return compiled.snapshot;
}

const rule = (name: string, spec: object) => ({
  kind: 'SegmentationRule',
  metadata: { name },
  spec: { action: 'allow', ...spec },
});
const segment = (name: string, ...members: object[]) => ({ kind: 'Segment', metadata: { name }, spec: { members } });

describe('compileSnapshot', () => {
  it('fills in the defaults of the mesh', () => {
    assert.deepEqual(compile({ kind: 'Segment', metadata: { name: 'a' }, spec: { members: [{ node: 'a' }] } }), {
      ...meta,
      mesh: { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'istio-system' },
      rules: [],
      authorizationPolicies: [],
      networkPolicies: [],
      peerAuthentications: [],
      externals: [],
      namespaces: {},
    });
  });

  it('takes the settings of the mesh', () => {
    const { mesh } = compile({ kind: 'Mesh', metadata: { name: 'default' }, spec: { mtls: 'STRICT' } });
    assert.deepEqual(mesh, {
      defaultAction: 'allow',
      outbound: 'allow',
      mtls: 'STRICT',
      rootNamespace: 'istio-system',
    });
  });

  it('sorts rules by tier, priority and name, and leaves out those that are off', () => {
    const { rules } = compile(
      rule('d', { tier: 'baseline', priority: 1 }),
      rule('c', { priority: 2 }),
      rule('b', { priority: 2 }),
      rule('off', { mode: 'off' }),
      rule('a', { tier: 'platform', priority: 9 }),
    );
    assert.deepEqual(
      rules.map(({ name }) => name),
      ['a', 'b', 'c', 'd'],
    );
  });

  it('sorts and joins ports', () => {
    const { rules } = compile(rule('a', { ports: ['90-100', 80, '81-89', 443, '95-120', '443'] }));
    assert.deepEqual(rules[0]?.ports, [
      [80, 120],
      [443, 443],
    ]);
  });

  it('expands nested segments and keeps the name of the outer one', () => {
    const { rules } = compile(
      segment('inner', { serviceAccount: 'a/x' }, { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] }),
      segment('outer', { segment: 'inner' }, { serviceAccount: 'a/w' }, { namespace: 'b', labels: { app: 'z' } }),
      rule('a', { from: [{ segment: 'outer' }, { serviceAccount: 'c/c' }] }),
    );
    assert.deepEqual(rules[0]?.from, [
      { cidrs: ['10.0.0.0/8'], exceptCidrs: ['10.1.0.0/16'], segment: 'outer' },
      { labels: { app: 'z' }, namespaces: ['b'], segment: 'outer' },
      { segment: 'outer', serviceAccounts: ['a/w', 'a/x'] },
      { serviceAccounts: ['c/c'] },
    ]);
  });

  it('does not grow with the ways in which a segment is reached', () => {
    const layers = Array.from({ length: 25 }, (_, index) =>
      segment(`s${index}`, { segment: `s${index + 1}` }, { segment: `s${index + 1}` }),
    );
    const { rules } = compile(...layers, segment('s25', { node: 'a' }), rule('a', { to: [{ segment: 's0' }] }));
    assert.deepEqual(rules[0]?.to, [{ nodes: ['a'], segment: 's0' }]);
  });

  it('refuses missing and circular segments, and never turns them into everybody', () => {
    const compiled = compileSnapshot(resourcesOf(rule('a', { from: [{ segment: 'gone' }] })), meta);
    assert.ok('problems' in compiled);
    assert.match(compiled.problems[0]?.message ?? '', /there is no Segment "gone"/);
    const circular = compileSnapshot(
      resourcesOf(segment('a', { segment: 'a' }), rule('a', { from: [{ segment: 'a' }] })),
      meta,
    );
    assert.ok('problems' in circular);
  });

  it('reads cluster.local in a principal as the own trust domain', () => {
    const principals = ['cluster.local/ns/a/sa/b', 'other.test/ns/a/sa/b', '*', 'cluster.local/ns/a/*'];
    const { authorizationPolicies } = compile({
      kind: 'AuthorizationPolicy',
      metadata: { name: 'p', namespace: 'billing' },
      spec: {
        selector: { matchLabels: { app: 'db' } },
        rules: [
          {
            from: [{ source: { principals, notPrincipals: ['cluster.local/ns/x/sa/y'] } }],
            to: [{ operation: { ports: ['80', 443] } }],
          },
        ],
      },
    });
    assert.deepEqual(authorizationPolicies, [
      {
        namespace: 'billing',
        name: 'p',
        action: 'ALLOW',
        selector: { app: 'db' },
        rules: [
          {
            from: [
              {
                principals: ['mesh.test/ns/a/sa/b', 'other.test/ns/a/sa/b', '*', 'mesh.test/ns/a/*'],
                notPrincipals: ['mesh.test/ns/x/sa/y'],
              },
            ],
            to: [{ ports: [80, 443] }],
          },
        ],
      },
    ]);
  });
});

describe('registryEntries', () => {
  const workload = (name: string, spec: object) => ({
    kind: 'Workload',
    metadata: { name, namespace: 'billing', labels: { app: name } },
    spec,
  });

  it('gives a workload its identity, and hbone when an agent captures it', () => {
    const entries = registryEntries(
      resourcesOf(
        workload('db', { addresses: ['198.18.0.2'], node: 'a' }),
        workload('api', {
          serviceAccount: 'api',
          addresses: ['198.18.0.1'],
          node: 'a',
          netns: 'api',
          capture: { excludeInboundPorts: [22] },
        }),
      ),
      'mesh.test',
    );
    assert.ok('entries' in entries);
    assert.deepEqual(entries.entries, [
      {
        kind: 'workload',
        namespace: 'billing',
        name: 'api',
        serviceAccount: 'api',
        identity: 'spiffe://mesh.test/ns/billing/sa/api',
        labels: { app: 'api' },
        addresses: ['198.18.0.1'],
        node: 'a',
        netns: 'api',
        protocol: 'hbone',
        capture: { excludeInboundPorts: [22], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
      },
      {
        kind: 'workload',
        namespace: 'billing',
        name: 'db',
        serviceAccount: 'default',
        identity: 'spiffe://mesh.test/ns/billing/sa/default',
        labels: { app: 'db' },
        addresses: ['198.18.0.2'],
        node: 'a',
        netns: null,
        protocol: 'tcp',
        capture: { excludeInboundPorts: [], excludeOutboundPorts: [], excludeOutboundCidrs: [] },
      },
    ]);
  });

  it('gives a service its ports, with the target port filled in', () => {
    const entries = registryEntries(
      resourcesOf({
        kind: 'Service',
        metadata: { name: 'web', namespace: 'shop' },
        spec: { vips: ['198.19.0.1'], ports: [{ port: 80, targetPort: 8080 }, { port: 81 }], selector: { app: 'web' } },
      }),
      'mesh.test',
    );
    assert.ok('entries' in entries);
    assert.deepEqual(entries.entries, [
      {
        kind: 'service',
        namespace: 'shop',
        name: 'web',
        vips: ['198.19.0.1'],
        ports: [
          { port: 80, targetPort: 8080 },
          { port: 81, targetPort: 81 },
        ],
        selector: { app: 'web' },
      },
    ]);
  });

  it('refuses a trust domain that gives no SPIFFE ID', () => {
    const entries = registryEntries(resourcesOf(workload('db', { addresses: ['198.18.0.2'] })), 'Mesh Test');
    assert.ok('problems' in entries);
    assert.match(
      entries.problems[0]?.message ?? '',
      /spiffe:\/\/Mesh Test\/ns\/billing\/sa\/default is not a valid SPIFFE ID/,
    );
  });
});
