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
    { port: 80, targetPort: 'http', protocol: 'TCP' },
    { port: 81, targetPort: 8081 },
    { port: 82, targetPort: '8082' },
    { port: 83, targetPort: 0 },
    { port: 53, protocol: 'UDP' },
  ];
  assert.deepEqual(readService(serviceWith({ clusterIPs: ['10.96.0.7', 'fd00:96::7'], ports })), {
    namespace: 'shop',
    name: 'web',
    clusterIps: ['10.96.0.7', 'fd00:96::7'],
    ports: [
      { port: 80, targetPort: 'http' },
      { port: 81, targetPort: 8081 },
      { port: 82, targetPort: 8082 },
      { port: 83, targetPort: 83 },
    ],
    selector: { app: 'web' },
    takesUnready: false,
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
  assert.deepEqual(readService(serviceWith({ clusterIPs: null }))?.clusterIps, ['10.96.0.7']);
  assert.deepEqual(readService(serviceWith({ selector: null }))?.selector, {});
  assert.equal(readService(serviceWith({ publishNotReadyAddresses: true }))?.takesUnready, true);
  assert.throws(() => readService({ metadata: { namespace: 'shop', name: 'web' } }));
});
