import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LateAcceptPorts } from '../../../../agent/control/workloads/late-accept-ports.js';
import { workload } from '../../../support/routing/registry-entries.js';

const a = { ...workload('shop/a', ['198.18.0.1']), lateAcceptPorts: [80, 5432] };
const b = { ...workload('shop/b', ['198.18.0.2']), lateAcceptPorts: [443, 5432] };
const plain = workload('shop/c', ['198.18.0.3']);
const change = { isFull: false, upserts: [], removals: [] } as const;
const external = { name: 'shop/x', hosts: [], cidrs: [], ports: [], lateAcceptPorts: [8443] };

test('the ports of all entries and ServiceEntries are known, and each change of them is told once', () => {
  const ports = new LateAcceptPorts();
  assert.equal(ports.useRegistry({ ...change, isFull: true, upserts: [plain] }), false);
  assert.equal(ports.useRegistry({ ...change, upserts: [a, b] }), true);
  assert.deepEqual(ports.ports, [80, 443, 5432]);
  assert.equal(ports.useRegistry({ ...change, upserts: [a, plain] }), false, 'the same again');
  assert.equal(ports.useExternals([external]), true);
  assert.equal(ports.useExternals([external]), false);
  assert.deepEqual(ports.ports, [80, 443, 5432, 8443]);
  assert.equal(ports.useRegistry({ ...change, removals: ['workload.shop.b'] }), true);
  assert.deepEqual(ports.ports, [80, 5432, 8443], '5432 is of two');
  assert.equal(ports.useRegistry({ ...change, upserts: [workload('shop/a', ['198.18.0.1'])] }), true);
  assert.equal(ports.useExternals([]), true);
  assert.deepEqual(ports.ports, []);
  assert.equal(ports.useRegistry({ ...change, isFull: true, upserts: [b] }), true);
  assert.equal(ports.useRegistry({ ...change, isFull: true, upserts: [] }), true);
  assert.deepEqual(ports.ports, []);
});
