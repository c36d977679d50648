import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readEndpointSlice } from '../../../../controller/kubernetes/endpoint-slice.js';
import { readNode } from '../../../../controller/kubernetes/node.js';

function sliceWith(o: object): object {
  return {
    metadata: { namespace: 'shop', name: 'db-1', labels: { 'kubernetes.io/service-name': 'db' } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['192.0.2.1'], nodeName: 'n1' }],
    ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
    ...o,
  };
}

test('a slice has endpoints by address, and ports by the name of those of the service', () => {
  const ports = [
    { name: 'sql', port: 5432 },
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'any', port: null },
  ];
  assert.deepEqual(readEndpointSlice(sliceWith({ ports })), {
    namespace: 'shop',
    service: 'db',
    endpoints: [{ address: '192.0.2.1', node: 'n1', availability: undefined }],
    ports: { sql: 5432 },
  });
  assert.deepEqual(readEndpointSlice(sliceWith({ ports: [{ port: 80, name: null }] }))?.ports, { '': 80 });
  assert.deepEqual(readEndpointSlice(sliceWith({ ports: null, endpoints: null }))?.endpoints, []);
});

test('a slice of no service, and one of names, are not the mesh’s', () => {
  assert.equal(readEndpointSlice(sliceWith({ metadata: { namespace: 'shop', name: 'db-1' } })), null);
  assert.equal(readEndpointSlice(sliceWith({ addressType: 'FQDN' })), null);
  assert.throws(() => readEndpointSlice({ metadata: {} }));
});

test('conditions say whether a service uses an endpoint; what is not said counts as ready', () => {
  const availability = (conditions: object | null): unknown =>
    readEndpointSlice(sliceWith({ endpoints: [{ addresses: ['192.0.2.1'], conditions }] }))?.endpoints[0]?.availability;
  for (const ready of [null, {}, { ready: null }, { ready: true }]) assert.equal(availability(ready), undefined);
  assert.equal(availability({ ready: false }), 'unready');
  assert.equal(availability({ ready: false, serving: true, terminating: true }), 'ending');
  assert.equal(availability({ ready: false, serving: false, terminating: true }), 'unready');
});

test('a node has a zone, or none', () => {
  const node = (labels?: object) => readNode({ metadata: { name: 'n1', ...(labels === undefined ? {} : { labels }) } });
  assert.equal(node({ 'topology.kubernetes.io/zone': 'a' }).zone, 'a');
  for (const labels of [undefined, {}, { 'topology.kubernetes.io/zone': '' }]) assert.equal(node(labels).zone, null);
});

test('a node has the startup taint as it is and where it is, or has none', () => {
  const taint = { key: 'culvert.dev/agent-not-ready', effect: 'NoExecute', timeAdded: '2026-01-01T00:00:00Z' };
  const other = { key: 'example.net/infra', effect: 'NoSchedule' };
  const of = (spec: object | undefined) => readNode({ metadata: { name: 'n1' }, ...(spec && { spec }) }).startupTaint;
  assert.deepEqual(of({ taints: [other, taint] }), { index: 1, taint });
  for (const spec of [undefined, {}, { taints: null }, { taints: [other] }]) assert.equal(of(spec), null);
});
