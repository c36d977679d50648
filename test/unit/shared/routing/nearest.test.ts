import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lookupOf } from '../../../../controller/analysis/registry/registry-lookup.js';
import { localityOf } from '../../../../shared/routing/locality.js';
import { resolveDestination } from '../../../../shared/routing/destination.js';
import { widerPlaces } from '../../../../shared/routing/nearest.js';
import type {
  Locality,
  NamedEndpoint,
  RegistryService,
  WorkloadEntry,
} from '../../../../shared/routing/registry-entry.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { ip, service, workload } from '../../../support/routing/registry-entries.js';

const labels = { app: 'web' };
const at = (name: string, address: string, locality?: Locality): WorkloadEntry => ({
  ...workload(`shop/${name}`, [address], labels),
  // Without a node it is near to nothing.
  ...(locality === undefined ? { node: null, netns: null } : { locality }),
});
const here = at('here', '198.18.0.1', { host: 'n1', zone: 'a' });
const near = at('near', '198.18.0.2', { host: 'n2', zone: 'a' });
const far = at('far', '198.18.0.3', { host: 'n3', zone: 'b' });
const somewhere = at('somewhere', '198.18.0.4');
const client: Locality = { host: 'n1', zone: 'a' };

function reached(
  distribution: RegistryService['distribution'],
  workloads: readonly WorkloadEntry[],
  from: Locality | null = client,
): string[] {
  const web: RegistryService = {
    ...service('shop/web', ['198.18.0.200'], labels),
    ...(distribution === undefined ? {} : { distribution }),
  };
  const { endpoints } = resolveDestination(lookupOf([...workloads, web]), { ip: ip('198.18.0.200'), port: 80 }, from);
  return endpoints.map(({ workload: found }) => found?.name ?? '').toSorted();
}

const all = [here, near, far, somewhere];
const names = ['far', 'here', 'near', 'somewhere'];

test('a workload of which only the node is known is on that node, and in no zone', () => {
  const ofNode = (name: string, address: string, node: string) => ({
    ...workload(`shop/${name}`, [address], labels),
    node: nodeNamed(node),
  });
  const [own, other] = [ofNode('own', '198.18.0.5', 'n1'), ofNode('other', '198.18.0.6', 'n2')];
  assert.deepEqual([localityOf(own), localityOf(here), localityOf(somewhere)], [{ host: 'n1' }, here.locality, null]);
  assert.equal(localityOf(own), localityOf(own));
  const from = localityOf(own);
  assert.deepEqual(reached('prefer-same-host', [own, other, far], from), ['own']);
  assert.deepEqual(reached('prefer-same-host', [other, far], from), ['far', 'other']);
  assert.deepEqual(reached('prefer-same-zone', [own, other, far], from), ['far', 'other', 'own']);
});

test('a client looks in its zone and then everywhere, where it may leave its host', () => {
  const inZone = { host: '', zone: 'a' };
  assert.deepEqual(widerPlaces(client, 'prefer-same-host'), [inZone, null]);
  assert.deepEqual(widerPlaces({ host: 'n1' }, 'prefer-same-host'), [null]);
  assert.deepEqual(widerPlaces(client, 'prefer-same-zone'), [null]);
  assert.equal(widerPlaces(client, 'prefer-same-host')[0], widerPlaces(client, 'prefer-same-host')[0]);
  for (const distribution of [undefined, 'same-host'] as const) assert.deepEqual(widerPlaces(client, distribution), []);
  assert.deepEqual(widerPlaces(null, 'prefer-same-host'), []);
  assert.deepEqual(reached('prefer-same-host', all, inZone), ['here', 'near']);
});

test('without a word about distance every endpoint serves', () => {
  assert.deepEqual(reached(undefined, all), names);
});

test('a client whose place is not known gets all', () => {
  for (const distribution of ['same-host', 'prefer-same-host', 'prefer-same-zone'] as const) {
    assert.deepEqual(reached(distribution, all, null), names);
  }
});

test('only the own host, also where it has none', () => {
  assert.deepEqual(reached('same-host', all), ['here']);
  assert.deepEqual(reached('same-host', [near, far]), []);
});

test('an endpoint of the own host that ends serves on where only the own host counts', () => {
  const ending: WorkloadEntry = { ...here, availability: 'ending' };
  assert.deepEqual(reached('same-host', [ending, near]), ['here']);
  assert.deepEqual(reached('prefer-same-host', [ending, near]), ['near']);
});

test('the own host, else the own zone, else all', () => {
  assert.deepEqual(reached('prefer-same-host', all), ['here']);
  assert.deepEqual(reached('prefer-same-host', [near, far]), ['near']);
  assert.deepEqual(reached('prefer-same-host', [far, somewhere]), ['far', 'somewhere']);
});

test('the own zone, else all', () => {
  assert.deepEqual(reached('prefer-same-zone', all), ['here', 'near']);
  assert.deepEqual(reached('prefer-same-zone', [far, somewhere]), ['far', 'somewhere']);
});

test('hosts without zones are not one zone', () => {
  const [one, other] = [at('one', '198.18.0.5', { host: 'n4' }), at('other', '198.18.0.6', { host: 'n5' })];
  assert.deepEqual(reached('prefer-same-zone', [one, other], { host: 'n4' }), ['one', 'other']);
});

test('a near endpoint that is not ready does not keep clients from one that is', () => {
  const unready: WorkloadEntry = { ...here, availability: 'unready' };
  assert.deepEqual(reached('prefer-same-host', [unready, far]), ['far']);
});

test('endpoints that a service names are outside the mesh, unless the address is a workload’s', () => {
  const endpoints: readonly NamedEndpoint[] = [
    { address: ip('192.0.2.1'), ports: { 80: 8443 } },
    { address: ip('198.18.0.3'), ports: { 80: 8080 } },
    { address: ip('192.0.2.2'), ports: { 81: 8443 } },
    { address: ip('192.0.2.3'), ports: { 80: 8443 }, availability: 'unready' },
    { address: ip('2001:db8::1'), ports: { 80: 8443 } },
  ];
  const web: RegistryService = { ...service('shop/web', ['198.18.0.200', 'fd00::200'], {}), endpoints };
  const dial = (address: string) =>
    resolveDestination(lookupOf([far, web]), { ip: ip(address), port: 80 }, null).endpoints.map(
      ({ workload: found, address: to }) => `${found?.name ?? 'outside'} ${to.ip} ${to.port}`,
    );
  assert.deepEqual(dial('198.18.0.200'), ['outside 192.0.2.1 8443', 'far 198.18.0.3 8080']);
  assert.deepEqual(dial('fd00::200'), ['outside 2001:db8::1 8443']);
});
