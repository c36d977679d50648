import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meshPart } from '../../../../controller/kubernetes/mesh-part.js';

const service = { group: '', kind: 'Service', name: 'web' };
const gateway = { name: 'edge', sectionName: 'tcp' };

test('a TCPRoute loses its parents that are Gateways, and is nothing to the mesh without another', () => {
  const part = (...parentRefs: readonly object[]) => meshPart('TCPRoute', { kind: 'TCPRoute', spec: { parentRefs } });
  const whole = { kind: 'TCPRoute', spec: { parentRefs: [service] } };
  assert.deepEqual(part(service), whole);
  assert.deepEqual(part(gateway, service, { group: 'gateway.networking.k8s.io', kind: 'ListenerSet' }), whole);
  assert.equal(part(gateway), null);
  // What is neither is judged with the document, and told.
  const wrong = { group: '', kind: 'service', name: 'web' };
  assert.deepEqual(part(wrong), { kind: 'TCPRoute', spec: { parentRefs: [wrong] } });
});

test('a VirtualService that names gateways counts where it names the mesh too', () => {
  const part = (gateways?: unknown) => meshPart('VirtualService', { spec: { hosts: ['web'], gateways } });
  assert.deepEqual(part(['istio-system/edge', 'mesh']), { spec: { hosts: ['web'], gateways: ['mesh'] } });
  assert.equal(part(['istio-system/edge']), null);
  for (const same of [undefined, [], 'mesh'])
    assert.deepEqual(part(same), { spec: { hosts: ['web'], gateways: same } });
});

test('other kinds, and what is no object, stay as they are', () => {
  const rule = { spec: { gateways: ['edge'], parentRefs: [gateway] } };
  assert.equal(meshPart('DestinationRule', rule), rule);
  for (const none of [null, 'text', { spec: null }, {}]) assert.equal(meshPart('TCPRoute', none), none);
});
