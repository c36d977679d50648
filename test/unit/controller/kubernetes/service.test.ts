import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readService } from '../../../../controller/kubernetes/service.js';

function serviceWith(spec: object): object {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'web' },
    spec: {
      clusterIP: '10.96.0.7',
      clusterIPs: ['10.96.0.7'],
      ports: [{ port: 80 }],
      selector: { app: 'web' },
      ...spec,
    },
  };
}

test('a service has its addresses, its TCP ports and where they lead', () => {
  const ports = [
    { name: 'web', port: 80, targetPort: 'http', protocol: 'TCP' },
    { port: 81, targetPort: 8081 },
    { port: 82, targetPort: '8082' },
    { port: 83, targetPort: 0 },
    { port: 53, protocol: 'UDP' },
  ];
  assert.deepEqual(readService(serviceWith({ clusterIPs: ['10.96.0.7', 'fd00:96::7'], ports })), {
    namespace: 'shop',
    name: 'web',
    uid: '',
    vips: ['10.96.0.7', 'fd00:96::7'],
    ports: [
      { name: 'web', port: 80, targetPort: 'http' },
      { name: '', port: 81, targetPort: 8081 },
      { name: '', port: 82, targetPort: 8082 },
      { name: '', port: 83, targetPort: 83 },
    ],
    selector: { app: 'web' },
    takesUnready: false,
    distribution: undefined,
    isSticky: false,
  });
});

test('a service without an address or without TCP is left to the cluster', () => {
  const specs = [
    { clusterIP: 'None', clusterIPs: ['None'] },
    { type: 'ExternalName', externalName: 'db.example.net', clusterIP: '', clusterIPs: null },
    { ports: [{ port: 53, protocol: 'UDP' }] },
    { ports: null },
  ];
  for (const spec of specs) assert.equal(readService(serviceWith(spec)), null);
});

test('a service of an old cluster, one without a selector, and one that takes pods before they are ready', () => {
  assert.deepEqual(readService(serviceWith({ clusterIPs: null }))?.vips, ['10.96.0.7']);
  assert.deepEqual(readService(serviceWith({ selector: null }))?.selector, {});
  assert.equal(readService(serviceWith({ publishNotReadyAddresses: true }))?.takesUnready, true);
  assert.throws(() => readService({ metadata: { namespace: 'shop', name: 'web' } }));
});

test('an address that its author chose is not its own: it may be that of another service', () => {
  assert.deepEqual(readService(serviceWith({ externalIPs: ['10.96.0.1', '192.0.2.7'] }))?.vips, ['10.96.0.7']);
});

test('which endpoints its clients get', () => {
  const distribution = (spec: object) => readService(serviceWith(spec))?.distribution;
  assert.equal(distribution({ internalTrafficPolicy: 'Cluster' }), undefined);
  assert.equal(distribution({ trafficDistribution: 'PreferSameNode' }), 'prefer-same-host');
  assert.equal(distribution({ trafficDistribution: 'PreferSameZone' }), 'prefer-same-zone');
  assert.equal(distribution({ trafficDistribution: 'PreferClose' }), 'prefer-same-zone');
  assert.equal(distribution({ trafficDistribution: 'OfALaterVersion' }), undefined);
  assert.equal(distribution({ internalTrafficPolicy: 'Local', trafficDistribution: 'PreferClose' }), 'same-host');
  assert.equal(readService(serviceWith({ sessionAffinity: 'ClientIP' }))?.isSticky, true);
});
