import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { test } from 'node:test';
import type { InventorySource, SourceChange, SourceEntry } from '../../../../controller/inventory/inventory-source.js';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { KubernetesSource } from '../../../../controller/kubernetes/kubernetes-source.js';
import { registryKey, type RegistryEntry } from '../../../../shared/routing/registry-entry.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

const [pods, services, namespaces, nodes] = ['pods', 'services', 'namespaces', 'nodes'].map(
  (kind) => `/api/v1/${kind}`,
) as [string, string, string, string];
const slices = '/apis/discovery.k8s.io/v1/endpointslices';

/** Keeps what a source writes. */
class KeptSource implements InventorySource {
  readonly name = 'kubernetes';
  readonly entries = new Map<string, RegistryEntry>();
  writes = 0;
  replacements = 0;
  /** How many entries each write had. */
  readonly changed: number[] = [];
  /** Fails in place of the next writes. */
  failures = 0;

  constructor(before: readonly RegistryEntry[] = []) {
    for (const entry of before) this.entries.set(registryKey(entry), entry);
  }

  async replaceAll(
    entries: Iterable<SourceEntry>,
    kept: ReadonlySet<string> = new Set(),
  ): ReturnType<InventorySource['replaceAll']> {
    this.replacements++;
    const upserts = [...entries];
    return this.#write(() => {
      for (const key of this.entries.keys()) if (!kept.has(key)) this.entries.delete(key);
      return { upserts, removals: [] };
    });
  }

  async change(change: SourceChange): ReturnType<InventorySource['change']> {
    return this.#write(() => change);
  }

  async #write(make: () => SourceChange): ReturnType<InventorySource['change']> {
    this.writes++;
    if (this.failures-- > 0) throw new Error('the disk is full');
    const { upserts, removals } = make();
    this.changed.push(upserts.length + removals.length);
    for (const key of removals) this.entries.delete(key);
    for (const { entry } of upserts) this.entries.set(registryKey(entry), entry);
    return { sequence: this.writes, changes: upserts.length + removals.length, conflicts: [] };
  }
}

class Followed implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly kept: KeptSource;
  readonly source: KubernetesSource;
  readonly #api: KubernetesApi;

  private constructor(server: FakeApiServer, kept: KeptSource) {
    this.server = server;
    this.kept = kept;
    this.#api = new KubernetesApi(server);
    this.source = new KubernetesSource({
      api: this.#api,
      source: kept,
      trustDomain: 'mesh.test',
      ownNamespace: 'culvert-system',
      log: silentLog,
      backoff: { firstMs: 20, longestMs: 100 },
    });
    this.source.start();
  }

  static async start(prepare: (server: FakeApiServer) => void, kept = new KeptSource()): Promise<Followed> {
    const server = await FakeApiServer.start();
    prepare(server);
    return new Followed(server, kept);
  }

  /** Node of each workload, or null; `true` for services. */
  async has(expected: Record<string, string | null | true>): Promise<void> {
    const present = (): object =>
      Object.fromEntries([...this.kept.entries].map(([key, entry]) => [key, entry.kind === 'service' || entry.node]));
    await eventually(`${JSON.stringify(expected)}, not ${JSON.stringify(present())}`, async () =>
      isDeepStrictEqual(present(), expected) ? true : undefined,
    ).catch(() => assert.deepEqual(present(), expected));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source[Symbol.asyncDispose]();
    this.#api.close();
    await this.server[Symbol.asyncDispose]();
  }
}

function pod(name: string, o: { labels?: object; phase?: string; hostNetwork?: boolean; namespace?: string } = {}) {
  const { labels = {}, phase = 'Running', hostNetwork = false, namespace = 'shop' } = o;
  return {
    metadata: { namespace, name, uid: `uid-${name}`, labels },
    spec: { nodeName: 'n1', hostNetwork, containers: [] },
    status: { phase, podIPs: [{ ip: '10.1.0.4' }], conditions: [{ type: 'Ready', status: 'True' }] },
  };
}

function service(name: string) {
  return {
    metadata: { namespace: 'shop', name },
    spec: { clusterIPs: ['10.96.0.9'], ports: [{ port: 80, protocol: 'TCP' }], selector: { app: 'web' } },
  };
}

function namespace(name: string, mesh: string | null = null) {
  return { metadata: { name, labels: mesh === null ? {} : { 'culvert.dev/mesh': mesh } } };
}

function shop(server: FakeApiServer): void {
  server.put(namespaces, namespace('shop', 'enabled'));
  server.put(pods, pod('web'));
  server.put(services, service('web'));
}

test('pods and services of a cluster are entries, and changes follow without a replacement', async () => {
  await using followed = await Followed.start(shop);
  const { server, kept } = followed;
  await followed.has({ 'workload.shop.web': 'n1', 'service.shop.web': true });
  server.put(pods, pod('db'));
  await followed.has({ 'workload.shop.web': 'n1', 'workload.shop.db': 'n1', 'service.shop.web': true });
  server.remove(pods, 'shop/web');
  server.remove(services, 'shop/web');
  await followed.has({ 'workload.shop.db': 'n1' });
  server.put(pods, pod('db', { phase: 'Succeeded' }));
  await followed.has({});
  assert.equal(kept.replacements, 1);
  assert.deepEqual(followed.source.state, {
    isSynced: true,
    problems: [],
    pods: 0,
    enrolled: 0,
    services: 0,
    warnings: [],
  });
});

test('the label of a namespace brings all its pods in, and out again', async () => {
  await using followed = await Followed.start((server) => {
    server.put(namespaces, namespace('shop'));
    server.put(pods, pod('web'));
    server.put(pods, pod('db', { labels: { 'culvert.dev/mesh': 'disabled' } }));
  });
  const { server } = followed;
  await followed.has({ 'workload.shop.web': null, 'workload.shop.db': null });
  server.put(namespaces, namespace('shop', 'enabled'));
  await followed.has({ 'workload.shop.web': 'n1', 'workload.shop.db': null });
  assert.equal(followed.source.state.enrolled, 1);
  server.put(namespaces, namespace('shop'));
  await followed.has({ 'workload.shop.web': null, 'workload.shop.db': null });
});

test('what was known before a start stays until every kind was listed', async () => {
  const before: RegistryEntry = {
    kind: 'service',
    namespace: 'shop',
    name: 'old',
    vips: [],
    ports: [],
    selector: { app: 'web' },
  };
  await using followed = await Followed.start(
    (server) => {
      shop(server);
      server.refuse(namespaces, 403);
    },
    new KeptSource([before]),
  );
  const { server } = followed;
  await eventually('the refusal is known', async () => followed.source.state.problems[0]);
  await followed.has({ 'service.shop.old': true });
  assert.match(followed.source.state.problems[0] ?? '', /answered 403 to \/api\/v1\/namespaces/);
  assert.equal(followed.source.state.isSynced, false);
  server.refuse(namespaces, null);
  await followed.has({ 'workload.shop.web': 'n1', 'service.shop.web': true });
});

test('a pod that comes again under its name is in its new sandbox', async () => {
  await using followed = await Followed.start(shop);
  const { server, kept } = followed;
  await followed.has({ 'workload.shop.web': 'n1', 'service.shop.web': true });
  const next = pod('web');
  server.put(pods, { ...next, metadata: { ...next.metadata, uid: 'uid-2' } });
  await eventually('the new sandbox', async () => {
    const entry = kept.entries.get('workload.shop.web');
    return entry?.kind === 'workload' && entry.netns === 'pod:uid-2' ? true : undefined;
  });
});

test('a change that cannot be written is written later, with those that came meanwhile', async () => {
  await using followed = await Followed.start(shop);
  const { server, kept } = followed;
  await followed.has({ 'workload.shop.web': 'n1', 'service.shop.web': true });
  kept.failures = 1;
  server.put(pods, pod('db'));
  await eventually('the failure is told', async () => followed.source.state.problems[0]);
  assert.match(followed.source.state.problems.join(), /changes of the cluster cannot be written: the disk is full/);
  server.remove(services, 'shop/web');
  await followed.has({ 'workload.shop.web': 'n1', 'workload.shop.db': 'n1' });
  assert.deepEqual(followed.source.state.problems, []);
});

test('many changes at once share their writes', async () => {
  await using followed = await Followed.start(shop);
  const { server, kept } = followed;
  await followed.has({ 'workload.shop.web': 'n1', 'service.shop.web': true });
  const before = kept.writes;
  const expected: Record<string, string | true> = { 'workload.shop.web': 'n1', 'service.shop.web': true };
  for (let count = 0; count < 500; count++) {
    server.put(pods, pod(`pod-${count}`));
    expected[`workload.shop.pod-${count}`] = 'n1';
  }
  await followed.has(expected);
  assert.ok(kept.writes - before <= 100, `${kept.writes - before} writes`);
});

/** The endpoints of the service that no selector finds. */
function namedEndpoints({ kept }: Followed, name = 'web'): unknown {
  const entry = kept.entries.get(`service.shop.${name}`);
  return entry?.kind === 'service' ? (entry.endpoints ?? []) : null;
}

async function hasEndpoints(followed: Followed, expected: unknown, name?: string): Promise<void> {
  await eventually(`endpoints ${JSON.stringify(expected)}`, async () =>
    isDeepStrictEqual(namedEndpoints(followed, name), expected) ? true : undefined,
  ).catch(() => assert.deepEqual(namedEndpoints(followed, name), expected));
}

test('a pod with the network of its node is an endpoint at the address of that, where its node is', async () => {
  const labels = { app: 'web' };
  await using followed = await Followed.start((server) => {
    shop(server);
    server.put(nodes, { metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'a' } } });
    server.put(pods, pod('web', { labels }));
  });
  const { server, kept } = followed;
  await hasEndpoints(followed, []);
  server.put(pods, pod('on-host', { labels, hostNetwork: true }));
  const endpoint = { address: '10.1.0.4', ports: { 80: 80 }, locality: { host: 'n1', zone: 'a' } };
  await hasEndpoints(followed, [endpoint]);
  server.put(nodes, { metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'b' } } });
  await hasEndpoints(followed, [{ ...endpoint, locality: { host: 'n1', zone: 'b' } }]);
  const entry = kept.entries.get('workload.shop.web');
  assert.deepEqual(entry?.kind === 'workload' && entry.locality, { host: 'n1', zone: 'b' });
  server.remove(pods, 'shop/on-host');
  await hasEndpoints(followed, []);
});

test('a pod of a file is no endpoint of the service that it selects itself into, and that is told', async () => {
  await using followed = await Followed.start(shop);
  const { server, source } = followed;
  await hasEndpoints(followed, []);
  const ofFile = (namespaceName: string) => {
    const made = pod('static', { labels: { app: 'web' }, hostNetwork: true, namespace: namespaceName });
    return { ...made, metadata: { ...made.metadata, annotations: { 'kubernetes.io/config.mirror': '0123' } } };
  };
  server.put(pods, ofFile('shop'));
  server.put(pods, pod('on-host', { labels: { app: 'web' }, hostNetwork: true }));
  await hasEndpoints(followed, [{ address: '10.1.0.4', ports: { 80: 80 }, locality: { host: 'n1' } }]);
  assert.match(source.state.warnings.join(), /service shop\/web: the pod static was made by its node/);
  // Parts of Kubernetes itself are such pods.
  const system = service('scheduler');
  server.put(services, { ...system, metadata: { ...system.metadata, namespace: 'kube-system' } });
  server.put(pods, ofFile('kube-system'));
  server.put(pods, pod('last'));
  await followed.has({ 'workload.shop.web': 'n1', 'workload.shop.last': 'n1', 'service.shop.web': true });
});

test('a service without a selector has the endpoints of its slices', async () => {
  await using followed = await Followed.start((server) => {
    shop(server);
    server.put(services, { ...service('db'), spec: { ...service('db').spec, selector: null } });
  });
  const { server } = followed;
  const slice = (name: string, o: { service?: string; labels?: object; conditions?: object } = {}) => ({
    metadata: { namespace: 'shop', name, labels: { 'kubernetes.io/service-name': o.service ?? 'db', ...o.labels } },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['192.0.2.1'], conditions: o.conditions ?? {} }],
    ports: [{ name: '', port: 5432, protocol: 'TCP' }],
  });
  await hasEndpoints(followed, [], 'db');
  server.put(slices, slice('db-1'));
  const endpoint = { address: '192.0.2.1', ports: { 80: 5432 } };
  await hasEndpoints(followed, [endpoint], 'db');
  server.put(slices, slice('db-1', { conditions: { ready: false } }));
  await hasEndpoints(followed, [{ ...endpoint, availability: 'unready' }], 'db');
  server.put(slices, slice('db-1', { service: 'web' }));
  await hasEndpoints(followed, [], 'db');
  await hasEndpoints(followed, [endpoint], 'web');
  // Made of the pods of a selector, which the registry selects by itself.
  const labels = { 'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io' };
  server.put(slices, slice('db-2', { labels }));
  server.remove(slices, 'shop/db-1');
  await hasEndpoints(followed, [], 'web');
  await hasEndpoints(followed, [], 'db');
});

test('what the mesh does not read of an object is no change', async () => {
  await using followed = await Followed.start(shop);
  const { server, kept } = followed;
  await followed.has({ 'workload.shop.web': 'n1', 'service.shop.web': true });
  const before = kept.writes;
  server.put(pods, { ...pod('web'), status: { ...pod('web').status, startTime: '2026-12-01T16:00:00Z' } });
  server.put(pods, pod('db'));
  await followed.has({ 'workload.shop.web': 'n1', 'workload.shop.db': 'n1', 'service.shop.web': true });
  assert.equal(kept.writes - before, 1);
  assert.equal(kept.changed.at(-1), 1);
});

test('an object that is larger than an entry may be costs itself only', async () => {
  const labels = Object.fromEntries(Array.from({ length: 2000 }, (_, count) => [`label-${count}`, 'x'.repeat(63)]));
  const ports = Array.from({ length: 9000 }, (_, count) => ({ port: count + 1, protocol: 'TCP' }));
  await using followed = await Followed.start((server) => {
    shop(server);
    server.put(pods, pod('large', { labels }));
    server.put(services, { ...service('large'), spec: { ...service('large').spec, ports } });
  });
  await followed.has({ 'workload.shop.web': 'n1', 'workload.shop.large': 'n1', 'service.shop.web': true });
  const entry = followed.kept.entries.get('workload.shop.large');
  assert.deepEqual(entry?.kind === 'workload' && entry.labels, {});
  assert.equal(followed.source.state.warnings.length, 2);
});

test('an object that cannot be understood is told', async () => {
  await using followed = await Followed.start((server) => {
    shop(server);
    server.put(pods, { metadata: { namespace: 'shop', name: 'odd' }, spec: 'none' });
  });
  await followed.has({ 'workload.shop.web': 'n1', 'service.shop.web': true });
  assert.match(followed.source.state.warnings.join(), /1 objects cannot be understood/);
});

test('what becomes unreadable stays as it was known, also from the last run, until it is deleted or can be read', async () => {
  const broken = <M>(object: { readonly metadata: M }) => ({ metadata: object.metadata, spec: 'none' });
  await using followed = await Followed.start((server) => {
    shop(server);
    server.put(pods, pod('db'));
  });
  const { server } = followed;
  const all = { 'workload.shop.web': 'n1', 'workload.shop.db': 'n1', 'service.shop.web': true } as const;
  await followed.has(all);
  const before = new Map(followed.kept.entries);
  server.put(pods, broken(pod('web')));
  server.put(services, broken(service('web')));
  server.put(pods, pod('new'));
  await followed.has({ ...all, 'workload.shop.new': 'n1' });
  for (const [key, entry] of before) assert.deepEqual(followed.kept.entries.get(key), entry);
  // Services come over a watch of their own.
  await eventually(
    'both are said',
    async () =>
      /2 objects cannot be understood.* stays: see the log about pods shop\/web, services shop\/web/.test(
        followed.source.state.warnings.join(),
      ) || undefined,
  );
  server.remove(pods, 'shop/new');
  server.compact();
  await followed.has(all);

  // The next run knows nothing of them but that they are there.
  await using next = await Followed.start(
    (other) => {
      other.put(namespaces, { metadata: { name: 'shop', labels: { 'culvert.dev/mesh': 1 } } });
      other.put(pods, broken(pod('web')));
      other.put(pods, pod('db'));
      other.put(services, broken(service('web')));
    },
    new KeptSource([...followed.kept.entries.values()]),
  );
  await eventually('all is listed', async () => next.source.state.isSynced || undefined);
  await next.has(all);
  assert.deepEqual(next.kept.entries.get('workload.shop.db'), before.get('workload.shop.db'), 'it stays in the mesh');
  assert.deepEqual([...(next.source.enrolments ?? [])], [['n1', { namespaces: ['shop'], outside: [] }]]);
  next.server.remove(pods, 'shop/web');
  next.server.remove(services, 'shop/web');
  next.server.put(namespaces, namespace('shop', 'disabled'));
  await next.has({ 'workload.shop.db': null });
  await eventually('nothing is said any more', async () => next.source.state.warnings.length === 0 || undefined);
});

test('a label that means nothing, and pods of the system, are told', async () => {
  await using followed = await Followed.start((server) => {
    server.put(namespaces, namespace('kube-system', 'enabled'));
    server.put(pods, pod('dns', { namespace: 'kube-system' }));
    server.put(pods, pod('web', { labels: { 'culvert.dev/mesh': 'yes' } }));
  });
  await followed.has({ 'workload.kube-system.dns': null, 'workload.shop.web': null });
  const { warnings } = followed.source.state;
  assert.equal(warnings.length, 2);
  assert.match(warnings.join('\n'), /pod kube-system\/dns: pods of the namespace kube-system stay outside the mesh/);
  assert.match(warnings.join('\n'), /pod shop\/web: the label culvert\.dev\/mesh is "yes"/);
});
