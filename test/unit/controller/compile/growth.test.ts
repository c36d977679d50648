import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkSelected } from '../../../../controller/compile/check/check-foreign-policies.js';
import { checkReferences } from '../../../../controller/compile/check/check-references.js';
import {
  RegisteredIndex,
  type Registered,
  type RegisteredWorkload,
} from '../../../../controller/compile/check/registered.js';
import { ProblemList } from '../../../../controller/resources/parse/problem-list.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import { mergePeerMatches } from '../../../../controller/compile/merge-peer-matches.js';
import type { PeerAuthentication } from '../../../../controller/resources/kinds/peer-authentication.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import { writeSnapshot } from '../../../../shared/wire/snapshot-text.js';
import { trustDomain } from '../../../support/rules/policy-fixture.js';

const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'x', trustDomain };

function compile(
  documents: readonly { readonly kind: string; readonly name: string; readonly spec: object }[],
): Snapshot {
  const texts = documents.map(({ kind, name, spec }) =>
    JSON.stringify({ apiVersion: 'culvert.dev/v1', kind, metadata: { name }, spec }),
  );
  const { resources, problems }: { resources: readonly Resource[]; problems: readonly unknown[] } = parseDocuments(
    texts.join('\n---\n'),
  );
  assert.deepEqual(problems, []);
  const compiled = compileSnapshot(resources, meta);
  assert.ok('snapshot' in compiled);
  return compiled.snapshot;
}

const rule = (name: string, spec: object) => ({ kind: 'SegmentationRule', name, spec: { action: 'allow', ...spec } });
const segment = (name: string, members: readonly object[]) => ({ kind: 'Segment', name, spec: { members } });

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

describe('a snapshot grows with the text', () => {
  const shapes: Readonly<Record<string, (size: number) => Parameters<typeof compile>[0]>> = {
    'when many rules name a segment of many labels': (size) => [
      segment(
        'all',
        times(size, (index) => ({ namespace: 'shop', labels: { app: `app-${index}` } })),
      ),
      ...times(size, (index) => rule(`rule-${index}`, { from: [{ segment: 'all' }], to: [{ segment: 'all' }] })),
    ],
    'when many rules name a segment of many accounts': (size) => [
      segment(
        'all',
        times(size, (index) => ({ serviceAccount: `shop/app-${index}` })),
      ),
      ...times(size, (index) => rule(`rule-${index}`, { from: [{ segment: 'all' }], to: [{ namespace: 'shop' }] })),
    ],
    'when many segments contain a large one': (size) => [
      segment(
        'all',
        times(size, (index) => ({ cidr: `10.0.${index >> 8}.${index & 255}` })),
      ),
      ...times(size, (index) => segment(`with-${index}`, [{ segment: 'all' }, { namespace: `n-${index}` }])),
      ...times(size, (index) => rule(`rule-${index}`, { to: [{ segment: `with-${index}` }] })),
    ],
  };
  for (const [name, documents] of Object.entries(shapes)) {
    it(name, () => {
      const [half, whole] = [250, 500].map((size) => writeSnapshot(compile(documents(size))).length);
      assert.ok(half !== undefined && whole !== undefined && whole < 2.2 * half, `${half} bytes, then ${whole}`);
    });
  }
});

describe('a small segment', () => {
  it('is listed in the rules that name it, for agents that know nothing of shared segments', () => {
    const { rules, segments } = compile([
      segment(
        'small',
        times(8, (index) => ({ namespace: 'shop', labels: { app: `app-${index}` } })),
      ),
      segment('outer', [{ segment: 'small' }]),
      rule('a', { from: [{ segment: 'outer' }] }),
    ]);
    assert.equal(segments, undefined);
    assert.equal(rules[0]?.from.length, 8);
    for (const peer of rules[0]?.from ?? []) assert.equal('segment' in peer ? peer.segment : null, 'outer');
  });

  it('is shared from the 17th value on, and those around it are, too', () => {
    const { rules, segments } = compile([
      segment(
        'large',
        times(17, (index) => ({ serviceAccount: `shop/app-${index}` })),
      ),
      segment('outer', [{ segment: 'large' }, { segment: 'small' }]),
      segment('small', [{ namespace: 'shop' }]),
      segment(
        'unused',
        times(17, (index) => ({ serviceAccount: `shop/app-${index}` })),
      ),
      rule('a', { from: [{ segment: 'outer' }, { segment: 'small' }] }),
    ]);
    assert.deepEqual(
      segments?.map(({ name }) => name),
      ['large', 'outer'],
    );
    assert.deepEqual(segments?.[1]?.members, [{ memberOf: 'large' }, { namespaces: ['shop'] }]);
    assert.deepEqual(rules[0]?.from, [{ memberOf: 'outer' }, { namespaces: ['shop'], segment: 'small' }]);
  });
});

it('merging the networks of a rule adds each of them to a set once', (context) => {
  const size = 2000;
  const matches = times(size, (index) => ({ cidrs: [`10.0.${index >> 8}.${index & 255}/32`] }));
  const added = context.mock.method(Set.prototype, 'add').mock;
  const [merged] = mergePeerMatches(matches);
  const count = added.callCount();
  context.mock.restoreAll();
  assert.equal(merged?.cidrs?.length, size);
  assert.ok(count >= size && count <= 2 * size, `${count} values were added`);
});

it('looking for the endpoints of many services reads the workloads of a namespace once', () => {
  const metadata = { namespace: 'shop' };
  const workloads = times(300, (index) => ({
    apiVersion: 'culvert.dev/v1',
    kind: 'Workload',
    metadata: { ...metadata, name: `app-${index}`, labels: { app: `app-${index}` } },
    spec: { serviceAccount: 'app', addresses: [`10.1.${index >> 8}.${index & 255}`] },
  }));
  const services = times(310, (index) => ({
    apiVersion: 'culvert.dev/v1',
    kind: 'Service',
    metadata: { ...metadata, name: `service-${index}` },
    spec: { vips: [`10.2.${index >> 8}.${index & 255}`], selector: { app: `app-${index}` }, ports: [{ port: 80 }] },
  }));
  const text = [...workloads, ...services].map((each) => JSON.stringify(each)).join('\n---\n');
  const { resources, problems } = parseDocuments(text);
  assert.deepEqual(problems, []);
  const index = RegisteredIndex.of(resources);
  let reads = 0;
  const registered: Registered = {
    has: (kind, name) => index.has(kind, name),
    names: (kind) => index.names(kind),
    workloads: () => index.workloads(),
    workloadsIn: (namespace) => {
      reads++;
      return index.workloadsIn(namespace);
    },
  };
  const found = new ProblemList({ locations: new Map() });
  checkReferences(resources, registered, found);
  assert.equal(reads, 1);
  assert.deepEqual(
    found.warnings.map(({ resource }) => resource),
    times(10, (at) => `Service/shop/service-${300 + at}`),
  );
});

describe('a check of PeerAuthentications grows with policies and workloads, and not with their product', () => {
  it('when each selects a workload of its own', () => {
    const looks = (size: number): number => {
      let count = 0;
      const policies = times(size, (index): PeerAuthentication => {
        const metadata = { name: `p${index}`, namespace: 'shop', labels: {}, annotations: {} };
        const spec = { selector: { matchLabels: { tier: 'all', app: `a${index}` } }, mtls: { mode: 'STRICT' } };
        const policy = { apiVersion: 'security.istio.io/v1', kind: 'PeerAuthentication', metadata, spec };
        return Object.defineProperty(policy, 'spec', { get: () => (count++, spec) }) as unknown as PeerAuthentication;
      });
      const workloads = times(size, (index) => ({
        namespace: 'shop',
        name: `w${index}`,
        labels: { tier: 'all', app: `a${index}` },
      })) as unknown as RegisteredWorkload[];
      checkSelected(policies, workloads, new ProblemList({ locations: new Map() }));
      return count;
    };
    const [half, whole] = [looks(100), looks(200)];
    assert.ok(whole < 2.2 * half, `${half} looks at policies, then ${whole}`);
  });
});
