import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServicePeers } from '../../../../controller/compile/service-peers.js';
import type { Service } from '../../../../controller/resources/kinds/service.js';

function service(name: string, selector: Readonly<Record<string, string>>): Service {
  const spec = { vips: [], ports: [{ port: 80 }], selector };
  return { apiVersion: 'culvert.dev/v1', kind: 'Service', metadata: { namespace: 'billing', name }, spec };
}

const peers = new ServicePeers({ resources: [service('db', { app: 'db' }), service('none', {})] });

test('a service as a peer stands for the workloads that it selects', () => {
  assert.deepEqual(peers.matchesOf('billing/db'), [
    { namespaces: ['billing'], labels: { app: 'db' }, service: 'billing/db' },
  ]);
});

test('a service without a selector stands for no workload, not for its whole namespace', () => {
  assert.deepEqual(peers.matchesOf('billing/none'), [{ workloads: [], service: 'billing/none' }]);
});
