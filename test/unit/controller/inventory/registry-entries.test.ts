import assert from 'node:assert/strict';
import { test } from 'node:test';
import { registryEntries } from '../../../../controller/inventory/registry-entries.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';

const metadata = 'metadata: { name: web, namespace: shop }';

function entryOf(document: string): unknown {
  const { resources, problems } = parseDocuments(`apiVersion: culvert.dev/v1\n${document}`);
  assert.deepEqual(problems, []);
  const found = registryEntries(resources, 'culvert.test');
  assert.ok('entries' in found);
  return found.entries[0];
}

const workloadWith = (more: string) =>
  entryOf(`kind: Workload\n${metadata}\nspec: { addresses: [198.18.0.1]${more} }`) as { locality?: unknown };
const serviceWith = (more: string) =>
  entryOf(
    `kind: Service\n${metadata}\nspec: { vips: [198.19.0.1], ports: [{ port: 80 }], selector: { a: b }${more} }`,
  ) as { distribution?: unknown };

test('a workload is in the zone that its document names, and an entry without one is as before', () => {
  assert.deepEqual(workloadWith(', node: a, zone: eu-1a').locality, { host: 'a', zone: 'eu-1a' });
  assert.ok(!Object.hasOwn(workloadWith(', node: a'), 'locality'));
});

test('a service prefers what its document says, and an entry without it is as before', () => {
  assert.equal(serviceWith(', trafficDistribution: PreferSameNode').distribution, 'prefer-same-host');
  assert.equal(serviceWith(', trafficDistribution: PreferSameZone').distribution, 'prefer-same-zone');
  assert.ok(!Object.hasOwn(serviceWith(''), 'distribution'));
});
