import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { RegistryService, WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { answerTo, greetAndEcho, outbound } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const workloads = ['own', 'near', 'far'] as const;
type Name = (typeof workloads)[number];

/** Real connections to a service that prefers what is near, of which workloads come and go. */
describe('connections to a service with trafficDistribution', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  const servers: LabServer[] = [];

  before(async () => {
    const spec = (name: string, app: string) => ({ name, namespace: 'shop', serviceAccount: name, labels: { app } });
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [spec('client', 'client'), spec('own', 'web')] },
          { name: 'node2', workloads: [spec('near', 'web')] },
          { name: 'node3', workloads: [spec('far', 'web')] },
        ],
        services: [
          { name: 'web', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'web' } },
        ],
      },
      { workers: 2 },
    );
    for (const name of workloads) servers.push(await mesh.workload(name).listen({ port }, greetAndEcho));
    const zones = { client: 'a', own: 'a', near: 'a', far: 'b' };
    for (const [name, zone] of Object.entries(zones)) {
      const { node } = mesh.entry(`shop/${name}` as never);
      register(name, { locality: { host: node ?? '', zone } });
    }
  });
  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  function register(name: string, change: Partial<WorkloadEntry>): void {
    const key = `workload.shop.${name}`;
    const { availability: _before, ...entry } = mesh.entries.get(key) as WorkloadEntry;
    const changed = { ...entry, ...change };
    mesh.entries.set(key, changed);
    mesh.sendRegistry([changed]);
  }

  function distribute(distribution: RegistryService['distribution']): void {
    const entry = mesh.entries.get('service.shop.web') as RegistryService;
    mesh.sendRegistry([{ ...entry, ...(distribution === undefined ? {} : { distribution }) }]);
  }

  /** Who answers six connections in a row, once that is who should. */
  async function servedBy(...wanted: readonly Name[]): Promise<void> {
    await waitUntil(`connections to ${wanted.join(', ')} alone`, async () => {
      const found = new Set<string>();
      for (let i = 0; i < 6; i++) {
        await answerTo(mesh.workload('client'), { ip: mesh.lab.vip('web').ipv4, port: 80 }, 'x');
        const { reason, destination } = await mesh.closed('node1', outbound);
        assert.equal(reason, 'OK');
        found.add(destination.workload ?? '');
      }
      const expected = wanted.map((name) => `shop/${name}`);
      return [...found].toSorted().join() === expected.toSorted().join() ? true : undefined;
    });
  }

  const unready = { availability: 'unready' } as const;

  test('stay on the node, go to the zone and to all others in this order, and come back', async () => {
    distribute('prefer-same-host');
    await servedBy('own');
    register('own', unready);
    await servedBy('near');
    register('near', unready);
    await servedBy('far');
    register('near', {});
    await servedBy('near');
    register('own', {});
    await servedBy('own');
  });

  test('go farther where those that are near cannot be reached, are ejected there, and come back', async () => {
    distribute('prefer-same-host');
    await servers[0]!.close();
    // Nothing says yet that it does not serve: each connection finds out, and none fails.
    await servedBy('near');
    const rule = { namespace: 'shop', name: 'r', host: 'web.shop.svc.cluster.local', ports: {} };
    const outliers = { failures: 1, baseEjectionMs: 3000, decayMs: 1, maxEjectionPercent: 100, minHealthPercent: 0 };
    await mesh.apply(allowAll({ revision: 2, destinationRules: [{ ...rule, policy: { outliers } }] }));
    await servedBy('near');
    await servers[1]!.close();
    await servedBy('far');
    for (const [index, name] of (['own', 'near'] as const).entries()) {
      servers[index] = await mesh.workload(name).listen({ port }, greetAndEcho);
    }
    await servedBy('own');
    await mesh.apply(allowAll({ revision: 3 }));
  });

  test('stay in the zone, and leave it where nothing serves there', async () => {
    distribute('prefer-same-zone');
    await servedBy('own', 'near');
    register('own', unready);
    await servedBy('near');
    register('near', unready);
    await servedBy('far');
    for (const name of ['own', 'near']) register(name, {});
    await servedBy('own', 'near');
    distribute(undefined);
    await servedBy(...workloads);
  });
});
