import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { resolveDestination, resolveService, servedPort } from '../../../shared/routing/destination.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryView } from '../../../shared/routing/registry-view.js';
import { ip, service, workload } from './registry-entries.js';
import { serviceNamed, workloadNamed } from './names.js';

const web1 = workload('shop/web1', ['198.18.10.1', 'fd00::1'], { app: 'web', tier: 'front' });
const web2 = workload('shop/web2', ['198.18.10.2'], { app: 'web' });
const web6 = workload('shop/web6', ['fd00::6'], { app: 'web' });
const mute = workload('shop/mute', [], { app: 'web' });
const db = workload('shop/db', ['198.18.10.3'], { app: 'db' });
const foreign = workload('other/web9', ['198.18.10.9'], { app: 'web' });
const web = service('shop/web', ['198.18.200.1', 'fd00::c8:1']);

/** What every implementation of {@link RegistryView} answers. `viewOf` gets entries in any order. */
export function registryViewContract(name: string, viewOf: (entries: readonly RegistryEntry[]) => RegistryView): void {
  const dial = (entries: readonly RegistryEntry[], address: string, port = 80) =>
    resolveDestination(viewOf(entries), { ip: ip(address), port }, null);
  const reached = (entries: readonly RegistryEntry[], address: string, port = 80) =>
    dial(entries, address, port).endpoints.map((end) => `${end.workload?.name} ${end.address.ip} ${end.address.port}`);

  describe(name, () => {
    test('finds workloads and services by address and by name', () => {
      const view = viewOf([web, db, web1]);
      assert.deepEqual(view.workloadAt(ip('fd00::1')), web1);
      assert.deepEqual(view.workload(workloadNamed('shop/db')), db);
      assert.deepEqual(view.serviceAt(ip('fd00::c8:1')), web);
      assert.deepEqual(view.service(serviceNamed('shop/web')), web);
    });

    test('finds nothing at an address or under a name that nothing has', () => {
      const view = viewOf([web, db]);
      assert.equal(view.workloadAt(ip('198.18.200.1')), undefined);
      assert.equal(view.serviceAt(ip('198.18.10.3')), undefined);
      assert.equal(view.workload(workloadNamed('shop/web')), undefined);
      assert.equal(view.service(serviceNamed('shop/db')), undefined);
      assert.equal(view.workload(workloadNamed('db')), undefined);
    });

    const same: [string, readonly RegistryEntry[], string, string][] = [
      ['the first by namespace', [workload('b/a', ['198.18.0.1']), workload('a/b', ['198.18.0.1'])], 'a', 'b'],
      ['the first by name', [workload('a/y', ['198.18.0.1']), workload('a/x', ['198.18.0.1'])], 'a', 'x'],
      [
        'a namespace before one that it begins',
        [workload('a-b/x', ['198.18.0.1']), workload('a/x', ['198.18.0.1'])],
        'a',
        'x',
      ],
    ];
    for (const [title, entries, namespace, winner] of same) {
      test(`gives an address that two workloads claim to ${title}, in whatever order they come`, () => {
        for (const order of [entries, entries.toReversed()]) {
          const found = viewOf(order).workloadAt(ip('198.18.0.1'));
          assert.deepEqual([found?.namespace, found?.name], [namespace, winner]);
        }
      });
    }

    test('gives a VIP that two services claim to the first by name', () => {
      const entries = [service('shop/b', ['198.18.200.1']), service('shop/a', ['198.18.200.1'])];
      assert.equal(viewOf(entries).serviceAt(ip('198.18.200.1'))?.name, 'a');
      assert.equal(viewOf(entries.toReversed()).serviceAt(ip('198.18.200.1'))?.name, 'a');
    });

    test('selects by all labels within the namespace of the service, by name', () => {
      const view = viewOf([web2, foreign, web1, db, web]);
      const names = (selector: Record<string, string>) =>
        view.endpointsOf(service('shop/s', [], selector)).map((entry) => entry.name);
      assert.deepEqual(names({ app: 'web' }), ['web1', 'web2']);
    });

    test('selects no workload that lacks a label or has another value', () => {
      const view = viewOf([web2, web1, db]);
      assert.deepEqual(view.endpointsOf(service('shop/s', [], { app: 'web', tier: 'front' })), [web1]);
      assert.deepEqual(view.endpointsOf(service('shop/t', [], { app: 'web', tier: 'back' })), []);
    });

    test('selects nothing for a service without a selector', () => {
      const all = service('shop/all', ['198.18.200.9'], {});
      assert.deepEqual(viewOf([web1, all]).endpointsOf(all), []);
      assert.deepEqual(reached([web1, all], '198.18.200.9'), []);
    });

    test('is not misled by labels that every object has', () => {
      assert.deepEqual(viewOf([web1]).endpointsOf(service('shop/s', [], { constructor: 'x', toString: 'y' })), []);
    });

    describe('resolves', () => {
      test('the address of a workload to it, at the dialled port', () => {
        assert.equal(dial([db, web], '198.18.10.3').kind, 'workload');
        assert.deepEqual(reached([db, web], '198.18.10.3', 5432), ['db 198.18.10.3 5432']);
      });

      test('an address that a workload and a service claim to the workload', () => {
        assert.equal(dial([service('shop/a', ['198.18.10.3']), db], '198.18.10.3').kind, 'workload');
      });

      test('a VIP to the endpoints at the target port, in the order of their names', () => {
        assert.deepEqual(reached([web2, web1, web, db], '198.18.200.1'), [
          'web1 198.18.10.1 8080',
          'web2 198.18.10.2 8080',
        ]);
      });

      test('a VIP to an address of its family, else to the one that the endpoint has', () => {
        assert.deepEqual(reached([web1, web2, web], 'fd00::c8:1'), ['web1 fd00::1 8080', 'web2 198.18.10.2 8080']);
        assert.deepEqual(reached([web6, web2, web], '198.18.200.1'), ['web2 198.18.10.2 8080', 'web6 fd00::6 8080']);
      });

      test('a service to no endpoint that has no address', () => {
        assert.deepEqual(reached([mute, web], '198.18.200.1'), []);
      });

      test('a port that the service does not serve to no endpoint of it', () => {
        const destination = dial([web1, web], '198.18.200.1', 8080);
        assert.equal(destination.kind, 'service');
        assert.deepEqual(destination.endpoints, []);
        assert.deepEqual(resolveService(viewOf([web1, web]), web, { ip: ip('198.18.200.1'), port: 8080 }, null), []);
      });

      test('an address that nothing has to outside of the mesh', () => {
        assert.equal(dial([web1, web], '198.19.0.1').kind, 'external');
      });
    });
  });
}

describe('the port of a service', () => {
  const two = { ...web, ports: [...web.ports, { port: 443, targetPort: 8443 }] };
  test('is the one that was dialled', () => assert.equal(servedPort(two, 443)?.targetPort, 8443));
  test('is the only one when none was named', () => assert.equal(servedPort(web, null)?.targetPort, 8080));
  test('is not guessed among several', () => assert.equal(servedPort(two, null), undefined));
});
