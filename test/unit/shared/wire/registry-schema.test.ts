import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RegistryService, WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import { registryEntrySchema } from '../../../../shared/wire/registry-schema.js';
import { ip, service, workload } from '../../../support/routing/registry-entries.js';

const locality = { host: 'n1', zone: 'a' };
const pod: WorkloadEntry = {
  ...workload('shop/web', ['198.18.0.1'], { app: 'web' }),
  availability: 'ending',
  locality,
};
const web: RegistryService = {
  ...service('shop/web', ['198.18.0.200']),
  endpoints: [{ address: ip('192.0.2.1'), ports: { 80: 8080 }, availability: 'unready', locality: { host: 'n2' } }],
  takesUnready: true,
  distribution: 'prefer-same-zone',
  isSticky: true,
};

test('an entry with everything is read as it was written', () => {
  for (const entry of [pod, web]) {
    assert.deepEqual(registryEntrySchema.parse(JSON.parse(JSON.stringify(entry))), entry);
  }
});

test('what an agent does not know of an entry makes it unreadable, and is not left out', () => {
  const [endpoint] = web.endpoints ?? [];
  const wrong: readonly object[] = [
    { ...pod, locality: { ...locality, region: 'eu' } },
    { ...pod, locality: {} },
    { ...web, distribution: 'nearest' },
    { ...web, isSticky: false },
    { ...web, endpoints: [{ ...endpoint, weight: 1 }] },
    { ...web, endpoints: [{ ...endpoint, ports: { http: 80 } }] },
    { ...web, endpoints: [{ ...endpoint, address: 'db.example.net' }] },
  ];
  for (const entry of wrong) assert.equal(registryEntrySchema.safeParse(entry).success, false, JSON.stringify(entry));
});
