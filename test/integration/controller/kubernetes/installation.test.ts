import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'node:test';
import { Installation } from '../../../../controller/kubernetes/installation.js';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

const namespace = 'culvert-system';
const path = `/apis/apps/v1/namespaces/${namespace}/daemonsets`;

/** The DaemonSet of the agents, or another one of the namespace. */
function daemonSet(name = 'culvert-agent', more: object = {}) {
  return { metadata: { namespace, name, ...more } };
}

/** What a controller knows of its installation in a cluster. */
class Watched implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly installation: Installation;
  changes = 0;
  readonly #api: KubernetesApi;

  private constructor(server: FakeApiServer) {
    this.server = server;
    this.#api = new KubernetesApi(server);
    this.installation = new Installation({
      api: this.#api,
      namespace,
      daemonSet: 'culvert-agent',
      log: silentLog,
      onChange: () => this.changes++,
      backoff: { firstMs: 20, longestMs: 100 },
    });
  }

  static async start(prepare: (server: FakeApiServer) => void): Promise<Watched> {
    const server = await FakeApiServer.start();
    prepare(server);
    const watched = new Watched(server);
    await eventually('it is asked for', async () => server.heard.length > 0 || undefined);
    return watched;
  }

  async becomes(isUninstalled: boolean): Promise<void> {
    await eventually(`uninstalled: ${isUninstalled}`, async () => {
      return this.installation.isUninstalled === isUninstalled || undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.installation[Symbol.asyncDispose]();
    this.#api.close();
    await this.server[Symbol.asyncDispose]();
  }
}

async function watches({ server }: Watched): Promise<void> {
  await eventually('the watch is open', async () => server.watches === 1 || undefined);
}

test('an installation whose DaemonSet is deleted is uninstalled, until it is there again', async () => {
  await using watched = await Watched.start((server) => server.put(path, daemonSet()));
  await watches(watched);
  assert.equal(watched.installation.isUninstalled, false);
  watched.server.remove(path, `${namespace}/culvert-agent`);
  await watched.becomes(true);
  watched.server.put(path, daemonSet());
  await watched.becomes(false);
  assert.equal(watched.changes, 2);
});

test('one that waits for its pods to end (foreground) counts as deleted', async () => {
  await using watched = await Watched.start((server) => server.put(path, daemonSet()));
  await watches(watched);
  watched.server.put(path, daemonSet('culvert-agent', { deletionTimestamp: '2026-12-01T00:00:00Z' }));
  await watched.becomes(true);
});

test('one that was deleted while the watch was away is noticed at the next list', async () => {
  await using watched = await Watched.start((server) => server.put(path, daemonSet()));
  await watches(watched);
  watched.server.status = 503;
  watched.server.dropWatches();
  watched.server.remove(path, `${namespace}/culvert-agent`);
  await delay(50);
  assert.equal(watched.installation.isUninstalled, false);
  watched.server.status = null;
  await watched.becomes(true);
});

test('one that was never there, that may not be asked about, or another DaemonSet says nothing', async () => {
  await using never = await Watched.start((server) => server.put(path, daemonSet('other')));
  await watches(never);
  never.server.remove(path, `${namespace}/other`);
  await using forbidden = await Watched.start((server) => server.refuse(path, 403));
  await delay(200);
  assert.deepEqual([never.installation.isUninstalled, forbidden.installation.isUninstalled], [false, false]);
});

test('one that cannot be understood any more is there all the same', async () => {
  await using watched = await Watched.start((server) => server.put(path, daemonSet()));
  await watches(watched);
  watched.server.put(path, daemonSet('culvert-agent', { deletionTimestamp: 1 }));
  watched.server.compact();
  await eventually('it is listed again', async () => watched.server.heard.filter(isList).length === 2 || undefined);
  assert.equal(watched.installation.isUninstalled, false);
  watched.server.remove(path, `${namespace}/culvert-agent`);
  await watched.becomes(true);
});

function isList(line: string): boolean {
  return !line.includes('watch=');
}
