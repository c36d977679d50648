import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lookupOf } from '../../../../controller/analysis/registry/registry-lookup.js';
import { resolveDestination } from '../../../../shared/routing/destination.js';
import type { RegistryService, WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import { ip, service, workload } from '../../../support/routing/registry-entries.js';

const labels = { app: 'web' };
const ready = workload('shop/ready', ['198.18.0.1'], labels);
const unready: WorkloadEntry = { ...workload('shop/unready', ['198.18.0.2'], labels), availability: 'unready' };
const ending: WorkloadEntry = { ...workload('shop/ending', ['198.18.0.3'], labels), availability: 'ending' };
const web = service('shop/web', ['198.18.0.200'], labels);

function endpoints(workloads: readonly WorkloadEntry[], of: RegistryService = web): string[] {
  const registry = lookupOf([...workloads, of]);
  return resolveDestination(registry, { ip: ip('198.18.0.200'), port: 80 }, null).endpoints.map(
    ({ workload: found }) => found?.name ?? '',
  );
}

test('a service uses its ready workloads', () => {
  assert.deepEqual(endpoints([ready, unready, ending]), ['ready']);
});

test('where none is ready, it uses those that end and still serve', () => {
  assert.deepEqual(endpoints([unready, ending]), ['ending']);
  assert.deepEqual(endpoints([unready]), []);
});

test('a service that takes unready workloads uses all', () => {
  assert.deepEqual(endpoints([ready, unready, ending], { ...web, takesUnready: true }), ['ending', 'ready', 'unready']);
});

test('an address leads to its workload, ready or not', () => {
  const {
    endpoints: [found],
  } = resolveDestination(lookupOf([unready]), { ip: ip('198.18.0.2'), port: 8080 }, null);
  assert.equal(found?.workload?.name, 'unready');
});
