import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { resourceKey } from '../../../../controller/resources/kinds/resource-key.js';
import { findKind } from '../../../../controller/resources/kinds/resource.js';

type Json = Record<string, unknown>;

const valid: Readonly<Record<string, Json>> = {
  Workload: { addresses: ['198.18.0.10'] },
  Service: { vips: ['198.19.0.1'], ports: [{ port: 80 }], selector: { app: 'web' } },
  Segment: { members: [{ namespace: 'billing' }] },
  SegmentationRule: { action: 'allow' },
  AuthorizationPolicy: {},
  Mesh: {},
};

function parse(kind: string, spec: Json, metadata: Json = {}) {
  const name = kind === 'Mesh' ? 'default' : 'api';
  const document = { apiVersion: 'culvert.dev/v1', kind, metadata: { name, ...metadata }, spec };
  const { resources, problems } = parseDocuments(JSON.stringify(document));
  return { resource: resources[0], problems: problems.map((p) => `${p.path}: ${p.message} | ${p.hint}`) };
}

describe('fields that are accepted', () => {
  const cases: readonly (readonly [kind: string, spec: Json, result: Json])[] = [
    ['Workload', {}, { serviceAccount: 'default' }],
    ['Workload', { serviceAccount: 'api.v2' }, { serviceAccount: 'api.v2' }],
    ['Workload', { node: 'host-a.example', netns: 'api' }, { node: 'host-a.example', netns: 'api' }],
    ['Workload', { node: 'a', netns: '/proc/12/ns/net' }, { netns: '/proc/12/ns/net' }],
    ['Workload', { addresses: ['::FFFF:198.18.0.1', 'FD00::01'] }, { addresses: ['198.18.0.1', 'fd00::1'] }],
    [
      'Workload',
      { capture: { excludeOutboundCidrs: ['10.0.0.1'] } },
      { capture: { excludeOutboundCidrs: ['10.0.0.1/32'] } },
    ],
    ['Workload', { node: 'a', zone: 'eu/1a' }, { node: 'a', zone: 'eu/1a' }],
    ['Service', { trafficDistribution: 'PreferSameNode' }, { trafficDistribution: 'PreferSameNode' }],
    ['Service', { trafficDistribution: 'PreferSameZone' }, { trafficDistribution: 'PreferSameZone' }],
    ['Service', { ports: [{ port: 80, targetPort: 8080 }] }, { ports: [{ port: 80, targetPort: 8080 }] }],
    ['SegmentationRule', {}, { tier: 'team', priority: 1000, action: 'allow', mode: 'enforce' }],
    ['SegmentationRule', { ports: [5432, '80', '8000-8100'] }, { ports: [5432, '80', '8000-8100'] }],
    ['SegmentationRule', { from: [{ cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] }] }, {}],
    ['SegmentationRule', { owner: 'payments', reason: 'PCI', mode: 'off', tier: 'baseline', priority: 0 }, {}],
    [
      'SegmentationRule',
      {
        onChange: 'drain 30s',
        rollout: 50,
        validFrom: '2026-01-01T00:00:00Z',
        expiresAt: '2027-01-31T00:00:00.5+02:00',
      },
      { onChange: 'drain 30s', rollout: 50, expiresAt: '2027-01-31T00:00:00.5+02:00' },
    ],
    ['SegmentationRule', { onChange: 'keep', expiresAt: '2028-02-29T23:59:59Z' }, { onChange: 'keep' }],
    [
      'SegmentationRule',
      { tests: [{ from: 'billing/api', to: 'billing/db:5432', expect: 'allow' }] },
      { tests: [{ from: 'billing/api', to: 'billing/db:5432', expect: 'allow' }] },
    ],
    [
      'SegmentationRule',
      { tests: [{ from: 'fd00::1', to: '[fd00::2]:80', expect: 'deny', by: 'SegmentationRule/api' }] },
      {},
    ],
    ['SegmentationRule', { from: [{ namespaceLabels: { team: 'a' } }, { service: 'billing/db' }] }, {}],
    ['SegmentationRule', { from: [{ unauthenticated: true, cidr: '10.0.0.0/8' }], to: [{ external: true }] }, {}],
    ['Mesh', { outbound: 'audit' }, { outbound: 'audit' }],
    ['Mesh', { defaultAction: 'deny', mtls: 'STRICT' }, { defaultAction: 'deny', mtls: 'STRICT' }],
  ];
  for (const [kind, spec, result] of cases) {
    it(`${kind} takes ${JSON.stringify(spec)}`, () => {
      const { resource, problems } = parse(kind, { ...valid[kind], ...spec });
      assert.deepEqual(problems, []);
      const read = resource?.spec as Json;
      for (const [field, value] of Object.entries(result)) assert.deepEqual(read[field], value);
    });
  }

  it('a resource that was read and written again reads the same', () => {
    for (const [kind, spec] of Object.entries(valid)) {
      const { resource } = parse(kind, spec);
      assert.deepEqual(parseDocuments(JSON.stringify(resource)).resources[0], resource);
    }
  });
});

describe('fields that are refused', () => {
  const cases: readonly (readonly [kind: string, spec: Json, problem: RegExp])[] = [
    ['Workload', { addresses: [] }, /^spec\.addresses: must have at least one address \| for example \["198/],
    ['Workload', { addresses: ['300.1.1.1'] }, /^spec\.addresses\[0\]: "300\.1\.1\.1" is not an IP address/],
    ['Workload', { addresses: ['127.0.0.1'] }, /is a loopback address, which no workload/],
    ['Workload', { addresses: ['224.0.0.1'] }, /is a multicast address/],
    ['Workload', { addresses: ['::'] }, /is the unspecified address/],
    ['Workload', { addresses: [1] }, /^spec\.addresses\[0\]: must be a text, but is the number 1 \| put it in quotes/],
    ['Workload', { addresses: '198.18.0.1' }, /^spec\.addresses: must be a list, but is the text/],
    ['Workload', { netns: 'api' }, /^spec\.netns: "api" needs the node/],
    ['Workload', { zone: 'a' }, /^spec\.zone: "a" needs the node that it is on: add spec\.node/],
    ['Workload', { node: 'a', zone: '' }, /^spec\.zone: .*must be letters, digits/],
    ['Workload', { node: 'a', zone: 'a b' }, /^spec\.zone: "a b" must be letters, digits/],
    ['Workload', { node: 'a', zone: 1 }, /^spec\.zone: must be a text/],
    ['Service', { trafficDistribution: 'PreferClose' }, /^spec\.trafficDistribution: .*PreferSameZone: write that/],
    ['Service', { trafficDistribution: 'Local' }, /^spec\.trafficDistribution: .*PreferSameNode/],
    ['Workload', { node: 'a', netns: '../x' }, /^spec\.netns: .*must be a name under \/run\/netns/],
    ['Workload', { node: 'a', netns: '/proc/../x' }, /^spec\.netns: /],
    ['Workload', { node: 'Host_A' }, /^spec\.node: "Host_A" must be lower-case/],
    ['Workload', { serviceAccount: 'a..b' }, /^spec\.serviceAccount: /],
    [
      'Workload',
      { serviceAcount: 'a' },
      /^spec\.serviceAcount: is not a field here \| did you mean "serviceAccount"\?/,
    ],
    [
      'Workload',
      { capture: { excludeInboundPorts: [0] } },
      /^spec\.capture\.excludeInboundPorts\[0\]: 0 must be a port/,
    ],
    [
      'Workload',
      { capture: { excludeOutboundCidrs: ['x'] } },
      /^spec\.capture\.excludeOutboundCidrs\[0\]: "x" is not a CIDR/,
    ],
    ['Service', { vips: [] }, /^spec\.vips: must have at least one address/],
    ['Service', { selector: {} }, /^spec\.selector: must name at least one label/],
    [
      'Service',
      { selector: { app: 1 } },
      /^spec\.selector\.app: must be a text, but is the number 1 \| put it in quotes: "1"/,
    ],
    ['Service', { selector: { 'a b': 'x' } }, /^spec\.selector\["a b"\]: is not a label name/],
    ['Service', { ports: [{ port: 80 }, { port: 80 }] }, /^spec\.ports\[1\]\.port: 80 is listed twice/],
    ['Service', { ports: [{ port: 70_000 }] }, /^spec\.ports\[0\]\.port: 70000 must be a port/],
    ['Service', { ports: [{ port: '80' }] }, /^spec\.ports\[0\]\.port: must be a number, but is the text "80"/],
    ['Segment', { members: [] }, /^spec\.members: must have at least one member/],
    ['Segment', { members: [{}] }, /^spec\.members\[0\]: is empty/],
    ['Segment', { members: [{ segment: 'a', node: 'b' }] }, /^spec\.members\[0\]\.segment: .*stands alone/],
    ['Segment', { members: [{ except: ['10.0.0.0/8'] }] }, /^spec\.members\[0\]\.except: .*add cidr/],
    ['Segment', { members: [{ cidr: '10.0.0.0/8', except: [] }] }, /^spec\.members\[0\]\.except: must not be empty/],
    ['Segment', { members: [{ labels: {} }] }, /^spec\.members\[0\]\.labels: must name at least one label/],
    ['Segment', { members: [{ serviceAccount: 'billing' }] }, /must be NAMESPACE\/NAME \| for example billing\/api/],
    ['Segment', { members: [{ workload: 'a/b/c' }] }, /must be NAMESPACE\/NAME/],
    ['SegmentationRule', { action: undefined }, /^spec\.action: is missing \| the values are allow, deny, pass/],
    ['SegmentationRule', { action: 'alow' }, /^spec\.action: must not be "alow" \| did you mean "allow"\?/],
    ['SegmentationRule', { tier: 'global' }, /^spec\.tier: must not be "global"/],
    ['SegmentationRule', { onChange: 'drain' }, /^spec\.onChange: "drain" must be terminate, keep, or drain with/],
    ['SegmentationRule', { onChange: 'drain 25h' }, /^spec\.onChange: .*of up to 24h \| for example drain 30s/],
    ['SegmentationRule', { rollout: 101 }, /^spec\.rollout: 101 must be a whole number from 0 to 100/],
    ['SegmentationRule', { rollout: 0.5 }, /^spec\.rollout: 0\.5 must be/],
    ['SegmentationRule', { expiresAt: '2027-02-29T00:00:00Z' }, /^spec\.expiresAt: .* is not a time as RFC 3339/],
    ['SegmentationRule', { expiresAt: '2027-01-31' }, /^spec\.expiresAt: .* \| for example 2027-01-31T00:00:00Z/],
    ['SegmentationRule', { validFrom: '2027-01-31T00:00:00' }, /^spec\.validFrom: /],
    [
      'SegmentationRule',
      { validFrom: '2027-01-31T00:00:00Z', expiresAt: '2027-01-31T01:00:00+01:00' },
      /^spec\.expiresAt: .*must be later than validFrom/,
    ],
    ['SegmentationRule', { tests: [] }, /^spec\.tests: must not be empty/],
    [
      'SegmentationRule',
      { tests: [{ from: 'a/b', to: 'a/c:0', expect: 'allow' }] },
      /^spec\.tests\[0\]\.to: "a\/c:0" must be NAMESPACE\/NAME:PORT or ADDRESS:PORT/,
    ],
    [
      'SegmentationRule',
      { tests: [{ from: 'b', to: 'a/c:1', expect: 'allow' }] },
      /^spec\.tests\[0\]\.from: "b" must be NAMESPACE\/NAME or an address/,
    ],
    [
      'SegmentationRule',
      { from: [{ external: true, labels: { a: 'b' } }] },
      /^spec\.from\[0\]\.labels: .*contradicts external/,
    ],
    [
      'SegmentationRule',
      { from: [{ unauthenticated: true, node: 'a' }] },
      /^spec\.from\[0\]\.node: .*contradicts unauthenticated/,
    ],
    ['SegmentationRule', { from: [{ external: false }] }, /^spec\.from\[0\]\.external: must be "true"/],
    ['SegmentationRule', { to: [{ service: 'a/b', cidr: '10.0.0.0/8' }] }, /^spec\.to\[0\]\.service: .*stands alone/],
    ['Mesh', { outbound: 'no' }, /^spec\.outbound: must not be "no"/],
    ['SegmentationRule', { priority: -1 }, /^spec\.priority: -1 must be a whole number/],
    ['SegmentationRule', { priority: 1.5 }, /^spec\.priority: 1\.5 must be a whole number/],
    ['SegmentationRule', { from: [] }, /^spec\.from: must not be empty: leave it out to match everybody/],
    ['SegmentationRule', { to: null }, /^spec\.to: has no value/],
    ['SegmentationRule', { ports: [] }, /^spec\.ports: must not be empty/],
    ['SegmentationRule', { ports: ['9-8'] }, /^spec\.ports\[0\]: "9-8" must be a port/],
    ['SegmentationRule', { ports: [80.5] }, /^spec\.ports\[0\]: 80\.5 must be a port/],
    ['SegmentationRule', { ports: [true] }, /^spec\.ports\[0\]: true must be a port/],
    ['SegmentationRule', { ports: ['0-10'] }, /must be a port/],
    ['SegmentationRule', { ports: ['1-65536'] }, /must be a port/],
    ['Mesh', { defaultAction: 'Deny' }, /did you mean "deny"/],
  ];
  for (const [kind, spec, problem] of cases) {
    it(`${kind} refuses ${JSON.stringify(spec)}`, () => {
      const { resource, problems } = parse(kind, { ...valid[kind], ...spec });
      assert.equal(resource, undefined);
      assert.equal(problems.length, 1, problems.join('\n'));
      assert.match(problems[0] ?? '', problem);
    });
  }
});

describe('metadata', () => {
  it('puts a namespaced kind into namespace default', () => {
    assert.equal(resourceKey(parse('Workload', valid['Workload'] ?? {}).resource!), 'Workload.default.api');
  });

  it('gives a kind of the whole mesh a key without namespace', () => {
    assert.equal(resourceKey(parse('Segment', valid['Segment'] ?? {}).resource!), 'Segment.-.api');
  });

  it('keeps keys within the characters of a NATS key', () => {
    const { resource } = parse('Workload', valid['Workload'] ?? {}, { name: 'a.b-c', namespace: 'x-1' });
    assert.match(resourceKey(resource!), /^[-/_=.a-zA-Z0-9]+$/);
  });

  const refused: readonly (readonly [kind: string, metadata: Json, problem: RegExp])[] = [
    ['Segment', { namespace: 'x' }, /^metadata\.namespace: is not supported \| this kind belongs to the whole mesh/],
    ['Mesh', { name: 'other' }, /^metadata\.name: must be "default", but is "other"/],
    ['Workload', { name: 'Api' }, /^metadata\.name: "Api" must be lower-case/],
    ['Workload', { name: 'a'.repeat(254) }, /^metadata\.name: /],
    ['Workload', { namespace: 'a.b' }, /^metadata\.namespace: /],
    ['Workload', { labels: { version: 1.1 } }, /^metadata\.labels\.version: must be a text, but is the number 1\.1/],
    ['Workload', { uid: 'x' }, /^metadata\.uid: is not a field here/],
  ];
  for (const [kind, metadata, problem] of refused) {
    it(`${kind} refuses ${JSON.stringify(metadata).slice(0, 60)}`, () => {
      const { problems } = parse(kind, valid[kind] ?? {}, metadata);
      assert.equal(problems.length, 1, problems.join('\n'));
      assert.match(problems[0] ?? '', problem);
    });
  }
});

describe('findKind', () => {
  const cases: readonly (readonly [string, string | undefined])[] = [
    ['workload', 'Workload'],
    ['Workloads', 'Workload'],
    ['svc', 'Service'],
    ['rules', 'SegmentationRule'],
    ['nothing', undefined],
  ];
  for (const [word, kind] of cases)
    it(`takes ${word} for ${kind ?? 'nothing'}`, () => assert.equal(findKind(word), kind));
});
