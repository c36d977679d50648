import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startupTaintKey } from '../../../../controller/install/install-options.js';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { KubernetesSource } from '../../../../controller/kubernetes/kubernetes-source.js';
import { StartupTaint } from '../../../../controller/kubernetes/startup-taint.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

const path = '/api/v1/nodes';
const startup = { key: startupTaintKey, effect: 'NoSchedule' };
const other = { key: 'example.net/infra', value: 'yes', effect: 'NoExecute' };

function node(
  name: string,
  taints: readonly object[],
): { readonly metadata: { readonly name: string; readonly uid: string }; readonly spec: object } {
  return { metadata: { name, uid: `uid-${name}` }, spec: { taints } };
}

/** A cluster whose nodes are followed, and the taint of those whose agents capture is taken off. */
class Followed implements AsyncDisposable {
  readonly capturing = new Set<string>();
  /** The last question about each node. */
  readonly askedSinceMs = new Map<string, number>();
  readonly taint: StartupTaint;
  /** That much time has passed. */
  laterMs = 0;
  readonly #api: KubernetesApi;
  readonly #source: KubernetesSource;

  constructor(readonly server: FakeApiServer) {
    this.#api = new KubernetesApi(server);
    const unchanged = async () => ({ sequence: 1, changes: 0, conflicts: [] });
    this.#source = new KubernetesSource({
      api: this.#api,
      source: { name: 'kubernetes', replaceAll: unchanged, change: unchanged },
      trustDomain: 'mesh.test',
      ownNamespace: 'culvert-system',
      log: silentLog,
      backoff: { firstMs: 20, longestMs: 100 },
    });
    this.taint = new StartupTaint({
      api: this.#api,
      nodes: () => this.#source.nodes,
      facts: {
        capturesNothingYet: (name, sinceMs) => {
          this.askedSinceMs.set(name, sinceMs);
          return this.capturing.has(name) ? null : 'its agent is silent';
        },
      },
      log: silentLog,
      turnMs: 20,
      elapsedMs: () => performance.now() + this.laterMs,
    });
    this.#source.start();
    this.taint.start();
  }

  taintsOf(name: string): unknown {
    const node = this.server.get(path, `/${name}`) ?? assert.fail(name);
    return (node['spec'] as { readonly taints: unknown }).taints;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.taint[Symbol.asyncDispose]();
    await this.#source[Symbol.asyncDispose]();
    this.#api.close();
    await this.server[Symbol.asyncDispose]();
  }
}

async function eventuallyTrue(what: string, isTrue: () => boolean): Promise<void> {
  await eventually(what, async () => isTrue() || undefined);
}

test('the taint goes from a node whose agent captures, from no other, and no other taint goes', async () => {
  await using followed = new Followed(await FakeApiServer.start());
  const { server, capturing } = followed;
  server.put(path, node('n1', [other, startup]));
  server.put(path, node('n2', [startup]));
  server.put(path, node('n3', [other]));
  await eventuallyTrue('both are asked about', () => ['n1', 'n2'].every((name) => followed.askedSinceMs.has(name)));
  assert.ok(Math.abs((followed.askedSinceMs.get('n1') ?? 0) - Date.now()) < 60_000, 'since the node was made');
  assert.equal(followed.askedSinceMs.has('n3'), false);
  assert.deepEqual(server.patches, []);

  capturing.add('n1').add('n3');
  await eventuallyTrue('n1 has lost it', () => server.patches.length > 0);
  assert.deepEqual(
    ['n1', 'n2', 'n3'].map((name) => followed.taintsOf(name)),
    [[other], [startup], [other]],
  );
  assert.deepEqual(
    server.patches.map(({ type }) => type),
    ['application/json-patch+json'],
  );
  assert.equal(followed.taint.problem, null);
});

test('with two effects both go, and a list that changed meanwhile loses nothing else', async () => {
  await using followed = new Followed(await FakeApiServer.start());
  const { server, capturing } = followed;
  const executing = { ...startup, effect: 'NoExecute' };
  server.put(path, node('n1', [startup, executing, other]));
  await eventuallyTrue('it is asked about', () => followed.askedSinceMs.has('n1'));
  // What the source knows is old from here on.
  server.status = 503;
  server.dropWatches();
  server.put(path, node('n1', [other, startup, executing]));
  server.status = null;
  capturing.add('n1');
  await eventuallyTrue('both have gone', () => JSON.stringify(followed.taintsOf('n1')) === JSON.stringify([other]));
});

test('a node whose change is refused keeps its taint, is named, and holds up no other', async () => {
  await using followed = new Followed(await FakeApiServer.start());
  const { server, capturing } = followed;
  server.put(path, node('n1', [startup]));
  server.put(path, node('n2', [startup]));
  server.refuse(`${path}/n1`, 403);
  capturing.add('n1').add('n2');
  await eventuallyTrue('n2 has lost it', () => JSON.stringify(followed.taintsOf('n2')) === '[]');
  await eventuallyTrue('the problem is known', () => followed.taint.problem !== null);
  assert.match(
    followed.taint.problem ?? '',
    /startup taint of n1 cannot be taken off: .*403.*its role must allow this/,
  );
  server.refuse(`${path}/n1`, null);
  followed.laterMs = 60_000;
  await eventuallyTrue('the taint has gone', () => JSON.stringify(followed.taintsOf('n1')) === '[]');
  await eventuallyTrue('the problem has gone', () => followed.taint.problem === null);
});

test('a refusal that could mean another list of taints is a problem when it comes again', async () => {
  await using followed = new Followed(await FakeApiServer.start());
  const { server, capturing } = followed;
  server.put(path, node('n1', [startup]));
  server.refuse(`${path}/n1`, 422);
  capturing.add('n1');
  await eventuallyTrue('it was tried', () => server.heard.includes(`PATCH ${path}/n1`));
  assert.equal(followed.taint.problem, null);
  followed.laterMs = 2000;
  await eventuallyTrue('the problem is known', () => followed.taint.problem !== null);
  assert.match(followed.taint.problem ?? '', /of n1 cannot be taken off: .*422/);
});

test('a node that keeps the taint for over two minutes is named, with the reason', async () => {
  await using followed = new Followed(await FakeApiServer.start());
  const { server, capturing } = followed;
  server.put(path, node('n1', [startup]));
  await eventuallyTrue('it is asked about', () => followed.askedSinceMs.has('n1'));
  assert.equal(followed.taint.problem, null);
  assert.equal(followed.taint.nodeProblems.size, 0);
  followed.laterMs = 120_000;
  assert.match(followed.taint.problem ?? '', /over two minutes, and take no pods: n1 \(its agent is silent\)$/);
  const note = 'the startup taint keeps pods off this node: its agent is silent';
  assert.deepEqual([...followed.taint.nodeProblems], [['n1', [{ reason: 'StartupTaintStays', note, afterMs: 0 }]]]);
  server.refuse(`${path}/n1`, 403);
  capturing.add('n1');
  await eventuallyTrue('it says why', () =>
    /off this node: the startup taint of n1 cannot be taken off: .*403/.test(
      followed.taint.nodeProblems.get('n1')?.[0]?.note ?? '',
    ),
  );
  server.refuse(`${path}/n1`, null);
  followed.laterMs += 60_000;
  await eventuallyTrue('the problem has gone', () => followed.taint.problem === null);
  assert.equal(followed.taint.nodeProblems.size, 0);
});
