import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findDestinations } from '../../../../controller/api/party-candidates.js';
import type { Locality, RegistryService, WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import { service, workload } from '../../../support/routing/registry-entries.js';

function server(name: string, address: string, locality: Locality): WorkloadEntry {
  return { ...workload(`shop/${name}`, [address], { app: 'web' }), locality };
}

const endpoints = [
  server('a', '198.18.0.1', { host: 'n1', zone: 'west' }),
  server('b', '198.18.0.2', { host: 'n2', zone: 'west' }),
  server('c', '198.18.0.3', { host: 'n3', zone: 'east' }),
];

function found(distribution: RegistryService['distribution'] | undefined, from: Locality | null) {
  const web = { ...service('shop/web', ['198.18.9.1']), ...(distribution === undefined ? {} : { distribution }) };
  const all = findDestinations('shop/web', 80, [...endpoints, web], from);
  const byVip = findDestinations('198.18.9.1', 80, [...endpoints, web], from);
  assert.deepEqual(byVip, all, 'by its address as by its name');
  return { names: all.map((each) => each.workload?.name), choices: new Set(all.map(({ choice }) => choice)) };
}

describe('the endpoints of a service that why explains', () => {
  const every = ['a', 'b', 'c'];

  test('are all of them where the service does not go by the place, and for a client whose place is not known', () => {
    const everywhere = { names: every, choices: new Set([null]) };
    assert.deepEqual(found(undefined, { host: 'n1', zone: 'west' }), everywhere);
    assert.deepEqual(found('same-host', null), everywhere);
  });

  test('are those of the zone, or of the host, that the client gets, and say why', () => {
    const near = found('prefer-same-zone', { host: 'n9', zone: 'west' });
    assert.deepEqual(near.names, ['a', 'b']);
    assert.match(
      [...near.choices].join(),
      /^Of the 3 endpoints of shop\/web a client on n9, in the zone west, gets 2: the nearest/,
    );
    assert.deepEqual(found('prefer-same-host', { host: 'n2', zone: 'west' }).names, ['b']);
    const own = found('same-host', { host: 'n3' });
    assert.deepEqual(own.names, ['c']);
    assert.match(
      [...own.choices].join(),
      /a client on n3 gets 1: those of its own host \(internalTrafficPolicy: Local\)/,
    );
    assert.deepEqual(found('prefer-same-zone', { host: 'n9', zone: 'north' }).names, every, 'none is nearer');
  });

  test('are none for a client of a host without one, where the service is only for its own host', () => {
    assert.throws(() => found('same-host', { host: 'n9' }), {
      code: 'NOT_FOUND',
      message: /shop\/web has no endpoint on n9, and a client there gets none of the 3 others/,
    });
  });
});
