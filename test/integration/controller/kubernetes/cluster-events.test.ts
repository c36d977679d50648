import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InventorySource } from '../../../../controller/inventory/inventory-source.js';
import { ClusterEvents, type EventFacts } from '../../../../controller/kubernetes/cluster-events.js';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { KubernetesSource } from '../../../../controller/kubernetes/kubernetes-source.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { FakeApiServer, type StoredEvent } from '../../../support/kubernetes/fake-api-server.js';

const source: InventorySource = {
  name: 'kubernetes',
  replaceAll: async () => ({ sequence: 1, changes: 0, conflicts: [] }),
  change: async () => ({ sequence: 1, changes: 0, conflicts: [] }),
};

/** A cluster whose objects are followed, with their events. Time goes by a hundred times as fast for what waits. */
class Told implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly source: KubernetesSource;
  readonly events: ClusterEvents;
  problem: string | null = 'iptables-restore failed';
  readonly #api: KubernetesApi;

  private constructor(server: FakeApiServer) {
    this.server = server;
    this.#api = new KubernetesApi(server);
    this.source = new KubernetesSource({
      api: this.#api,
      source,
      trustDomain: 'mesh.test',
      ownNamespace: 'culvert-system',
      log: silentLog,
      backoff: { firstMs: 20, longestMs: 100 },
    });
    const facts: EventFacts = {
      uncaptured: () => (this.problem === null ? [] : [{ workload: 'shop/web', problem: this.problem }]),
      isCaptured: () => this.problem === null,
      nodes: () => new Map([['n1', [{ reason: 'NoAgent', note: 'no agent has joined', afterMs: 60_000 }]]]),
      conflicts: () => [
        {
          claim: '10.96.0.9',
          winner: { source: 'documents', key: 'service.shop.db' },
          loser: { source: 'kubernetes', key: 'service.shop.api' },
        },
      ],
    };
    this.events = new ClusterEvents({
      api: this.#api,
      facts,
      taintedNodes: () => new Map([['n1', [{ reason: 'StartupTaintStays', note: 'its agent is silent', afterMs: 0 }]]]),
      objects: this.source,
      instance: 'culvert-controller-0',
      nowMs: Date.now,
      log: silentLog,
      turnMs: 20,
      elapsedMs: () => performance.now() * 100,
    });
    this.source.start();
    this.events.start();
  }

  static async start(): Promise<Told> {
    const server = await FakeApiServer.start();
    const [ports, clusterIPs] = [[{ port: 80 }], ['10.96.0.9']];
    server.put('/api/v1/nodes', { metadata: { name: 'n1', uid: 'node-1' } });
    server.put('/api/v1/namespaces', { metadata: { name: 'shop', labels: { 'culvert.dev/mesh': 'enabled' } } });
    server.put('/api/v1/services', {
      metadata: { namespace: 'shop', name: 'api', uid: 'service-1' },
      spec: { clusterIPs, ports, selector: { app: 'api' } },
    });
    server.put('/api/v1/pods', pod('web', 'pod-1', {}));
    server.put('/api/v1/pods', pod('odd', 'pod-2', { 'culvert.dev/mesh': 'yes' }));
    return new Told(server);
  }

  /** The events of an object, by reason. */
  of(name: string): ReadonlyMap<string, StoredEvent> {
    const all = [...this.server.events.values()].filter(({ regarding }) => regarding.name === name);
    return new Map(all.map((event) => [event.reason, event]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.events[Symbol.asyncDispose]();
    await this.source[Symbol.asyncDispose]();
    this.#api.close();
    await this.server[Symbol.asyncDispose]();
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  await eventually(what, async () => holds() || undefined);
}

function pod(name: string, uid: string, labels: Readonly<Record<string, string>>) {
  return {
    metadata: { namespace: 'shop', name, uid, labels },
    spec: { nodeName: 'n1' },
    status: { phase: 'Running', podIPs: [{ ip: '10.2.0.7' }] },
  };
}

test('pods, nodes and services get the events that the API server takes', async () => {
  await using told = await Told.start();
  await until('five events', () => told.server.events.size >= 5);
  const web = told.of('web').get('NotCaptured');
  assert.equal(web?.type, 'Warning');
  assert.match(web.note, /iptables-restore failed$/);
  assert.equal(web.regarding.uid, 'pod-1');
  assert.match(told.of('odd').get('NotAsWritten')?.note ?? '', /culvert\.dev\/mesh is "yes"/);
  assert.equal(told.of('n1').get('NoAgent')?.regarding.uid, 'node-1');
  assert.equal(told.of('n1').get('StartupTaintStays')?.note, 'its agent is silent');
  assert.match(told.of('api').get('Clash')?.note ?? '', /10\.96\.0\.9.*service\.shop\.db \(documents\)/);
  assert.equal(told.events.problem, null);
});

test('that a pod is captured at last is told too', async () => {
  await using told = await Told.start();
  await until('it is not captured', () => told.of('web').has('NotCaptured'));
  told.problem = null;
  await until('it is captured', () => told.of('web').has('Captured'));
  assert.equal(told.of('web').get('Captured')?.type, 'Normal');
});

test('a pod that is gone has no more events', async () => {
  await using told = await Told.start();
  await until('it is not captured', () => told.of('web').has('NotCaptured'));
  told.server.remove('/api/v1/pods', 'shop/web');
  await until('the cluster says so', () => told.source.startedPod('shop/web') === null);
  told.problem = null;
  const heard = told.server.heard.length;
  told.server.put('/api/v1/pods', pod('odd', 'pod-2', { 'culvert.dev/mesh': 'no' }));
  await until('the cluster says so', () => told.server.heard.length > heard);
  assert.equal(told.of('web').has('Captured'), false);
});

test('a server that is away, silent or refuses costs events only: objects are followed meanwhile', async () => {
  await using told = await Told.start();
  await until('the cluster says so', () => told.source.state.pods === 2);
  const path = '/apis/events.k8s.io/v1/namespaces/shop/events';
  for (const where of [path, '/apis/events.k8s.io/v1/namespaces/default/events']) told.server.refuse(where, 403);
  told.server.put('/api/v1/pods', pod('late', 'pod-3', { 'culvert.dev/mesh': 'perhaps' }));
  await until('the cluster says so', () => told.source.state.pods === 3);
  await until('the cluster says so', () => told.source.state.warnings.some((text) => text.includes('perhaps')));
  await until('the cluster says so', () => told.events.problem !== null);
  assert.match(told.events.problem ?? '', /events cannot be written.*403/);
  for (const where of [path, '/apis/events.k8s.io/v1/namespaces/default/events']) told.server.refuse(where, null);
  await until('the cluster says so', () => told.of('late').has('NotAsWritten'));
  assert.equal(told.events.problem, null);
});
