import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { KubernetesApi } from '../../../../controller/kubernetes/kubernetes-api.js';
import { Reflector } from '../../../../controller/kubernetes/reflector.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { FakeApiServer } from '../../../support/kubernetes/fake-api-server.js';

function waitFor(what: string, isTrue: () => boolean): Promise<boolean> {
  return eventually(what, async () => isTrue() || undefined);
}

const path = '/api/v1/things';
type Thing = { readonly metadata: { readonly name: string }; readonly value: string };

function thing(name: string, value: string): { metadata: { namespace: string; name: string }; value: string } {
  return { metadata: { namespace: 'shop', name }, value };
}

/** A reflector that runs, and what its owner knows. */
class Known implements AsyncDisposable {
  readonly server: FakeApiServer;
  readonly reflector: Reflector<string>;
  things = new Map<string, string>();
  lists = 0;
  readonly #api: KubernetesApi;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  private constructor(server: FakeApiServer, silence?: { readonly openingMs: number; readonly quietMs: number }) {
    this.server = server;
    this.#api = new KubernetesApi(server);
    this.reflector = new Reflector({
      api: this.#api,
      log: silentLog,
      backoff: { firstMs: 20, longestMs: 100 },
      ...(silence === undefined ? {} : { silence }),
      kind: {
        name: 'things',
        path,
        read: (object) => {
          const { value } = object as Thing;
          if (value === 'broken') throw new Error('no thing');
          return value === 'foreign' ? null : value;
        },
        onReplaced: (things, unreadable) => {
          this.lists++;
          const kept = [...this.things].filter(([key]) => unreadable.has(key));
          this.things = new Map([...kept, ...things]);
        },
        onUnreadable: () => undefined,
        onChanged: (key, value) => (value === null ? this.things.delete(key) : this.things.set(key, value)),
      },
    });
    this.#running = this.reflector.run(this.#stop.signal);
  }

  static async start(
    prepare: (server: FakeApiServer) => void = () => undefined,
    silence?: { readonly openingMs: number; readonly quietMs: number },
  ): Promise<Known> {
    const server = await FakeApiServer.start();
    prepare(server);
    return new Known(server, silence);
  }

  async has(expected: Record<string, string>): Promise<void> {
    const isSame = (): boolean => isDeepStrictEqual(Object.fromEntries(this.things), expected);
    await waitFor(`${JSON.stringify(expected)} is known`, isSame);
  }

  async watches(): Promise<void> {
    await waitFor('the watch is open', () => this.server.watches === 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#api.close();
    await this.server[Symbol.asyncDispose]();
  }
}

test('what is there is listed in pages, and each change is known at once', async () => {
  await using known = await Known.start((server) => {
    server.pageSize = 2;
    for (const name of ['a', 'b', 'c', 'd', 'e']) server.put(path, thing(name, name));
  });
  await known.has({ 'shop/a': 'a', 'shop/b': 'b', 'shop/c': 'c', 'shop/d': 'd', 'shop/e': 'e' });
  assert.ok(known.reflector.isSynced);
  await known.watches();
  known.server.put(path, thing('a', 'A'));
  known.server.put(path, thing('f', 'f'));
  for (const name of ['b', 'c', 'd']) known.server.remove(path, `shop/${name}`);
  await known.has({ 'shop/a': 'A', 'shop/e': 'e', 'shop/f': 'f' });
  assert.equal(known.lists, 1);
});

test('a watch that breaks goes on from where it was, also after a bookmark', async () => {
  await using known = await Known.start((server) => server.put(path, thing('a', 'a')));
  await known.watches();
  known.server.bookmark(path);
  known.server.put(path, thing('b', 'b'));
  await known.has({ 'shop/a': 'a', 'shop/b': 'b' });
  known.server.dropWatches();
  known.server.put(path, thing('c', 'c'));
  known.server.remove(path, 'shop/a');
  await known.has({ 'shop/b': 'b', 'shop/c': 'c' });
  assert.equal(known.lists, 1, 'nothing is listed again');
});

test('when the server has forgotten the version, everything is listed again: in a watch, at its start, between two pages', async () => {
  await using known = await Known.start((server) => {
    server.put(path, thing('a', 'a'));
    server.put(path, thing('b', 'b'));
  });
  await known.watches();
  known.server.remove(path, 'shop/a');
  known.server.compact();
  await waitFor('everything is listed again', () => known.lists === 2);
  await known.has({ 'shop/b': 'b' });
  await known.watches();

  known.server.status = 503;
  known.server.dropWatches();
  await waitFor('the problem is known', () => known.reflector.problem !== null);
  known.server.remove(path, 'shop/b');
  known.server.put(path, thing('c', 'c'));
  known.server.put(path, thing('d', 'd'));
  known.server.compact();
  known.server.pageSize = 1;
  let pages = 0;
  known.server.onPage = () => {
    if (pages++ === 0) known.server.compact();
  };
  known.server.status = null;
  await known.has({ 'shop/c': 'c', 'shop/d': 'd' });
  assert.ok(pages >= 2, 'the list was begun again');
  assert.equal(known.reflector.problem, null);
});

test('a server that is down, busy, silent or no API server costs nothing that is known', async () => {
  await using known = await Known.start((server) => server.put(path, thing('a', 'a')));
  await known.watches();
  const { server } = known;
  const troubles: readonly [cause: () => void, cure: () => void, problem: RegExp][] = [
    [
      () => (server.status = 403),
      () => (server.status = null),
      /403 .*as the test wants it.*must allow "list" and "watch"/,
    ],
    [() => (server.token = 'token-2'), () => (server.token = 'token-1'), /401 .*the token does not count/],
    [() => (server.body = '<html>'), () => (server.body = null), /it is no JSON/],
    [() => (server.body = '{"kind":"Other"}'), () => (server.body = null), /that cannot be understood/],
  ];
  for (const [cause, cure, problem] of troubles) {
    cause();
    server.dropWatches();
    await waitFor(`the problem is ${problem}`, () => problem.test(known.reflector.problem ?? ''));
    assert.deepEqual([...known.things], [['shop/a', 'a']]);
    cure();
    await known.watches();
    // The server tells nothing in the watch.
    await waitFor('nothing is wrong any more', () => known.reflector.problem === null);
  }
  assert.equal(known.lists, 1);
});

test('a watch without a word is opened again where it was, and a server that hangs is named', async () => {
  const silence = { openingMs: 500, quietMs: 200 };
  await using known = await Known.start((server) => server.put(path, thing('a', 'a')), silence);
  await known.watches();
  const { server, reflector } = known;
  const watchesOf = (): number => server.heard.filter((line) => line.includes('watch=1')).length;
  await waitFor('it was opened three times', () => watchesOf() >= 3);
  assert.equal(reflector.problem, null, 'a cluster where nothing changes is none');

  server.isSilent = true;
  server.put(path, thing('b', 'b'));
  await waitFor('it is named', () => /does not answer: it did not answer in time/.test(reflector.problem ?? ''));
  assert.deepEqual([...known.things], [['shop/a', 'a']]);
  server.isSilent = false;
  await known.has({ 'shop/a': 'a', 'shop/b': 'b' });
  await waitFor('nothing is wrong any more', () => reflector.problem === null);
  assert.equal(known.lists, 1);
});

test('a server that asks for time gets it, and one that ends watches at once is not asked in a tight loop', async () => {
  await using known = await Known.start((server) => server.put(path, thing('a', 'a')));
  await known.watches();
  const { server } = known;
  server.status = 429;
  server.retryAfter = '1';
  const before = server.heard.length;
  server.dropWatches();
  await waitFor('it was refused', () => server.heard.length > before);
  const refused = server.heard.length;
  await new Promise((resolve) => setTimeout(resolve, 300));
  // Without the header it would ask every 100 ms at the latest.
  assert.equal(server.heard.length, refused);
  assert.ok(refused - before <= 1, `${refused - before} requests`);
});

test('a new token in the file is taken at once', async () => {
  await using known = await Known.start();
  await known.watches();
  known.server.token = 'token-2';
  await writeFile(known.server.tokenFile, 'token-2\n');
  known.server.put(path, thing('a', 'a'));
  known.server.dropWatches();
  known.server.put(path, thing('b', 'b'));
  await known.has({ 'shop/a': 'a', 'shop/b': 'b' });
});

test('an object that cannot be understood is not gone, and one that does not concern the mesh is', async () => {
  await using known = await Known.start((server) => {
    server.put(path, thing('a', 'broken'));
    server.put(path, thing('b', 'b'));
  });
  await known.has({ 'shop/b': 'b' });
  await known.watches();
  assert.deepEqual([...known.reflector.unreadable], ['shop/a']);
  known.server.put(path, thing('a', 'a'));
  known.server.put(path, thing('b', 'foreign'));
  await known.has({ 'shop/a': 'a' });
  assert.equal(known.reflector.unreadable.size, 0);
  known.server.put(path, thing('a', 'broken'));
  await waitFor('it is unreadable', () => known.reflector.unreadable.size === 1);
  await known.has({ 'shop/a': 'a' });
  // A list of everything has it too.
  known.server.put(path, thing('d', 'd'));
  known.server.compact();
  await known.has({ 'shop/a': 'a', 'shop/d': 'd' });
  assert.deepEqual([...known.reflector.unreadable], ['shop/a']);
  await known.watches();
  known.server.remove(path, 'shop/a');
  known.server.remove(path, 'shop/d');
  await known.has({});
  assert.equal(known.reflector.unreadable.size, 0);
  known.server.say('{"type":"ADDED","object":{"metadata":{}}}\n');
  known.server.put(path, thing('c', 'c'));
  await known.has({ 'shop/c': 'c' });
});
