import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { readTolerantly } from '../../../../shared/wire/snapshot-schema.js';
import { assertRefused, compileDocuments } from '../../../support/controller/compiled-documents.js';

const metadata = { name: 'l', namespace: 'shop' };

function document(spec: object, rest: object = {}): string {
  const written = { host: 'web', connectionsPerSecond: 5, ...spec };
  return JSON.stringify({ apiVersion: 'culvert.dev/v1', kind: 'RateLimit', metadata, spec: written, ...rest });
}

/** Each row: what is written, the path of the one problem, and what is said of it. */
describe('a RateLimit is refused', () => {
  const rows: readonly (readonly [path: string, spec: object, why: RegExp])[] = [
    ['spec.host', { host: 'web.shop' }, /whole name for Istio.*web\.shop\.svc\.cluster\.local/],
    ['spec.ports', { ports: [] }, /leave it out for every port/],
    ['spec.ports[0]', { ports: [70_000] }, /port from 1 to 65535/],
    ['spec.from', { from: [] }, /leave it out for every client/],
    ['spec.from[0]', { from: [{}] }, /is empty: name a namespace/],
    ['spec.from[0].serviceAccount', { from: [{ serviceAccount: 'api' }] }, /NAMESPACE\/NAME/],
    ['spec.from[0].labels', { from: [{ labels: {} }] }, /at least one label/],
    [
      'spec.from[0].cidr',
      { from: [{ cidr: '10.0.0.0/8' }] },
      /not supported.*write namespace, serviceAccount or labels/,
    ],
    ['spec.from[0].segment', { from: [{ segment: 'batch' }] }, /not supported.*names its clients itself/],
    ['spec.from[0].workload', { from: [{ workload: 'shop/a' }] }, /not supported.*write serviceAccount/],
    ['spec.per', { per: 'connection' }, /source.*destination.*pair/],
    ['spec.connectionsPerSecond', { connectionsPerSecond: 0 }, /at least 0\.001/],
    ['spec.connectionsPerSecond', { connectionsPerSecond: 2_000_000 }, /at most 1000000/],
    ['spec.burst', { burst: 0 }, /at least 1/],
    ['spec.burst', { burst: 1.5 }, /whole number/],
    [
      'spec.burst',
      { connectionsPerSecond: undefined, maxConnections: 5, burst: 3 },
      /of connectionsPerSecond, which is/,
    ],
    ['spec.maxConnections', { maxConnections: 0 }, /at least 1/],
    [
      'spec',
      { connectionsPerSecond: undefined },
      /limits nothing: write connectionsPerSecond, maxConnections or bytesPerSecond/,
    ],
    ['spec.mode', { mode: 'off' }, /enforce.*audit/],
    ['spec.scope', { scope: 'mesh' }, /does not serve it: write agent/],
    ['spec.bytesPerSecond', { bytesPerSecond: 65_535 }, /at least 65536/],
    ['spec.bytesPerSecond', { bytesPerSecond: 1e12 }, /at most 100000000000/],
    ['spec.bytesPerSecond', { bytesPerSecond: '10MB' }, /number/],
    ['spec.exportTo', { exportTo: ['*'] }, /not supported.*write from/],
    ['spec.to', { to: [] }, /not supported.*write host/],
  ];
  for (const [path, spec, why] of rows) {
    it(`for ${path}: ${JSON.stringify(spec)}`, () => assertRefused(document(spec), path, why));
  }

  it('as a document of Istio, which has no such kind', () => {
    const { problems } = parseDocuments(document({}, { apiVersion: 'networking.istio.io/v1' }));
    assert.equal(problems[0]?.path, 'apiVersion');
  });
});

describe('a RateLimit', () => {
  it('becomes what agents read, with defaults', () => {
    const snapshot = compileDocuments(
      document({}),
      document(
        {
          host: '*',
          ports: [443, 80, 443],
          from: [{ namespace: 'a', labels: { app: 'x' } }, { serviceAccount: 'shop/api' }],
          per: 'source',
          connectionsPerSecond: 0.5,
          maxConnections: 7,
          mode: 'audit',
          scope: 'agent',
        },
        { metadata: { name: 'a', namespace: 'root' } },
      ),
      document({ connectionsPerSecond: undefined, maxConnections: 3 }, { metadata: { name: 'm', namespace: 'shop' } }),
      document({ connectionsPerSecond: 2.5, burst: 9 }, { metadata: { name: 'n', namespace: 'shop' } }),
      document(
        { connectionsPerSecond: undefined, bytesPerSecond: 70_000 },
        { metadata: { name: 'o', namespace: 'shop' } },
      ),
    );
    const plain = { host: 'web.shop.svc.cluster.local', per: 'pair', mode: 'enforce' };
    assert.deepEqual(snapshot.rateLimits, [
      {
        namespace: 'root',
        name: 'a',
        host: '*',
        ports: [80, 443],
        sources: [{ namespace: 'a', labels: { app: 'x' } }, { serviceAccount: 'shop/api' }],
        per: 'source',
        rate: { perSecond: 0.5, burst: 1 },
        max: 7,
        mode: 'audit',
      },
      { namespace: 'shop', name: 'l', ...plain, rate: { perSecond: 5, burst: 5 } },
      { namespace: 'shop', name: 'm', ...plain, max: 3 },
      { namespace: 'shop', name: 'n', ...plain, rate: { perSecond: 2.5, burst: 9 } },
      { namespace: 'shop', name: 'o', ...plain, bytesPerSecond: 70_000 },
    ]);
    assert.deepEqual(
      readTolerantly(JSON.parse(JSON.stringify(snapshot)), [], () => assert.fail()),
      snapshot,
    );
  });

  it('is warned of where it names a service or an account that there is not', () => {
    const { resources } = parseDocuments(document({ from: [{ serviceAccount: 'shop/nix' }] }));
    const problems = validateSet(resources).map(({ path, severity }) => `${severity} ${path}`);
    assert.deepEqual(problems.sort(), ['warning spec.from[0].serviceAccount', 'warning spec.host']);
  });
});
