import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { EndpointLists } from '../../../../../agent/dataplane/route/endpoint-lists.js';
import { RegistryIndex } from '../../../../../agent/dataplane/route/registry-index.js';
import { resolveService } from '../../../../../shared/routing/destination.js';
import { registryKey, type Locality } from '../../../../../shared/routing/registry-entry.js';
import { propertyRuns } from '../../../../support/property-runs.js';
import { ip, registryEntry, service, someNames, workload } from '../../../../support/routing/registry-entries.js';

const dialled = { ip: ip('198.18.200.1'), port: 80 };
const v1 = { name: 'v1', labels: { version: '1' } };

describe('the endpoints of a service', () => {
  const web = service('shop/web', [dialled.ip]);
  const a = workload('shop/a', ['198.18.0.1'], { app: 'web', version: '1' });
  const b = workload('shop/b', ['198.18.0.2'], { app: 'web', version: '2' });
  const filled = () => {
    const registry = new RegistryIndex();
    registry.apply({ image: null, upserts: [web, a, b], removals: [] });
    return { registry, lists: new EndpointLists({ registry }) };
  };

  it('are one list for as long as nothing of them changes, for each subset', () => {
    const { registry, lists } = filled();
    const [all, some] = [lists.resolve(web, dialled, null), lists.resolve(web, dialled, null, v1)];
    registry.apply({ image: null, upserts: [workload('billing/x', ['198.18.0.9'])], removals: [] });
    assert.equal(lists.resolve(web, { ...dialled, ip: ip('198.18.200.9') }, { host: 'n1' }), all);
    assert.equal(lists.resolve(web, dialled, null, v1), some);
    assert.deepEqual(
      [all, some].map((list) => list.map((endpoint) => endpoint.workload?.name)),
      [['a', 'b'], ['a']],
    );
    const other = { ...v1, labels: { version: '2' } };
    assert.deepEqual(
      lists.resolve(web, dialled, null, other).map((endpoint) => endpoint.workload?.name),
      ['b'],
    );
    registry.apply({ image: null, upserts: [], removals: [registryKey(a)] });
    assert.deepEqual(lists.resolve(web, dialled, null, v1), []);
  });

  it('are those that the registry has, whatever changes and whoever asks', () => {
    const place: fc.Arbitrary<Locality | null> = fc.constantFrom(null, { host: 'n1' }, { host: 'n2', zone: 'z' });
    const subset = fc.constantFrom(null, { name: 's', labels: { app: '1' } }, { name: 's', labels: { tier: '2' } });
    const distribution = fc.constantFrom(undefined, 'same-host' as const, 'prefer-same-zone' as const);
    const change = fc.record({
      upserts: fc.array(registryEntry, { maxLength: 4 }),
      removed: fc.array(fc.constantFrom(...someNames), { maxLength: 2 }),
      from: place,
      subset,
      distribution,
      port: fc.constantFrom(80, 81, 9),
      address: fc.constantFrom('198.18.200.1', 'fd00::200'),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
        const registry = new RegistryIndex();
        const lists = new EndpointLists({ registry });
        for (const { upserts, removed, from, subset: of, distribution: how, port, address } of changes) {
          const removals = removed.map((name) => `workload.${name.replace('/', '.')}`);
          const placed = upserts.map((entry) =>
            entry.kind === 'service' && how !== undefined ? { ...entry, distribution: how } : entry,
          );
          registry.apply({ image: null, upserts: placed, removals });
          for (const name of someNames) {
            const found = registry.service(name as never);
            if (found === undefined) continue;
            const asked = [found, { ip: ip(address), port }, from, of] as const;
            for (let times = 0; times < 2; times++) {
              assert.deepEqual(lists.resolve(...asked), resolveService(registry, ...asked));
            }
          }
        }
      }),
      { numRuns: propertyRuns(200) },
    );
  });
});
