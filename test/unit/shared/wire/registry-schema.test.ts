import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
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

test('what a newer controller says more of an entry is passed over', () => {
  const [endpoint] = web.endpoints ?? [];
  const newer: readonly (readonly [object, RegistryEntry])[] = [
    [{ ...pod, locality: { ...locality, region: 'eu' }, cost: 1 }, pod],
    [{ ...pod, capture: { ...pod.capture, excludeUids: [1] } }, pod],
    [{ ...web, endpoints: [{ ...endpoint, weight: 1 }], ports: [{ ...web.ports[0], name: 'http' }] }, web],
  ];
  for (const [entry, read] of newer) assert.deepEqual(registryEntrySchema.parse(entry), read);
});

test('what an agent must know of an entry and does not makes it unreadable', () => {
  const [endpoint] = web.endpoints ?? [];
  const wrong: readonly object[] = [
    { ...pod, cost: 1, requires: ['cost'] },
    { ...web, requires: ['weights'] },
    { ...pod, requires: 'cost' },
    { ...pod, locality: {} },
    { ...pod, availability: 'sleeping' },
    { ...web, distribution: 'nearest' },
    { ...web, isSticky: false },
    { ...web, endpoints: [{ ...endpoint, ports: { http: 80 } }] },
    { ...web, endpoints: [{ ...endpoint, address: 'db.example.net' }] },
  ];
  for (const entry of wrong) assert.equal(registryEntrySchema.safeParse(entry).success, false, JSON.stringify(entry));
});
