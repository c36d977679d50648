import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventWriter, type Condition } from '../../../../controller/kubernetes/event-writer.js';
import { KubernetesError } from '../../../../controller/kubernetes/kubernetes-error.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';

const { signal } = new AbortController();
const minute = 60_000;
const startMs = Date.parse('2026-01-01T00:00:00Z');

type Sent = { readonly method: string; readonly path: string; readonly body: Record<string, unknown> };

/** An API server that keeps events by path, as far as a writer sees it. */
class Server {
  readonly events = new Map<string, Record<string, unknown>>();
  readonly sent: Sent[] = [];
  elapsedMs = 0;
  failure: KubernetesError | null = null;
  /** Part of the paths that fail. */
  failing = '';
  writer = this.restarted();

  /** A writer that knows nothing of the one before. */
  restarted(): EventWriter {
    return new EventWriter({
      api: { send: async (what) => this.#take({ ...what, body: what.body as Record<string, unknown> }) },
      log: silentLog,
      instance: 'culvert-controller-abc',
      nowMs: () => startMs + this.elapsedMs,
      elapsedMs: () => this.elapsedMs,
    });
  }

  /** One turn at that time. */
  async at(elapsedMs: number, ...conditions: readonly Condition[]): Promise<void> {
    this.elapsedMs = elapsedMs;
    await this.writer.tell(conditions, signal);
  }

  #take({ method, path, body }: Sent): object {
    this.sent.push({ method, path, body });
    if (this.failure !== null && path.includes(this.failing)) throw this.failure;
    const { name } = (body['metadata'] ?? {}) as { readonly name?: string };
    const key = method === 'POST' ? `${path}/${name}` : path;
    const present = this.events.get(key);
    if (method === 'POST' && present !== undefined) throw refusal(409);
    if (method === 'PATCH' && present === undefined) throw refusal(404);
    this.events.set(key, { ...present, ...body });
    return {};
  }
}

function refusal(status: number, message = `answered ${status}`): KubernetesError {
  return new KubernetesError({ message, hint: '', status });
}

function uncaptured(name: string, note = 'no agent'): Condition {
  return {
    regarding: { kind: 'Pod', namespace: 'shop', name, uid: `uid-${name}` },
    reason: 'NotCaptured',
    note,
    afterMs: 15_000,
    over: () => ({ reason: 'Captured', note: 'in the mesh now' }),
  };
}

test('an event has what the API wants, and comes when a condition has stood for its time', async () => {
  const server = new Server();
  await server.at(0, uncaptured('web-1'));
  await server.at(14_999, uncaptured('web-1'));
  assert.equal(server.sent.length, 0);
  await server.at(15_000, uncaptured('web-1'));
  const [sent] = server.sent;
  assert.equal(sent?.path, '/apis/events.k8s.io/v1/namespaces/shop/events');
  const { metadata, ...body } = sent?.body ?? {};
  const { name, namespace } = metadata as { readonly name: string; readonly namespace: string };
  assert.match(name, /^web-1\.[0-9a-f]{16}$/);
  assert.equal(namespace, 'shop');
  assert.deepEqual(body, {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    eventTime: '2026-01-01T00:00:15.000000Z',
    reportingController: 'culvert.dev/controller',
    reportingInstance: 'culvert-controller-abc',
    action: 'Capture',
    reason: 'NotCaptured',
    regarding: { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name: 'web-1', uid: 'uid-web-1' },
    type: 'Warning',
    note: 'no agent',
  });
});

test('a condition that goes before its time is never told, and its end neither', async () => {
  const server = new Server();
  await server.at(0, uncaptured('web-1'));
  await server.at(5000);
  await server.at(20_000, uncaptured('web-1'));
  await server.at(30_000);
  assert.deepEqual(server.sent, []);
});

test('what stays is told again before the API server forgets it, as a series of one event', async () => {
  const server = new Server();
  for (let at = 0; at <= 65 * minute; at += minute) await server.at(at, uncaptured('web-1'));
  assert.equal(server.events.size, 1);
  assert.deepEqual(
    server.sent.map(({ method }) => method),
    ['POST', 'PATCH', 'PATCH'],
  );
  assert.deepEqual(server.sent.at(-1)?.body, {
    series: { count: 3, lastObservedTime: '2026-01-01T01:01:00.000000Z' },
  });
  server.events.clear();
  await server.at(95 * minute, uncaptured('web-1'));
  assert.deepEqual(
    server.sent.slice(-2).map(({ method }) => method),
    ['PATCH', 'POST'],
    'one that was forgotten is made again',
  );
});

test('its end is told once, as Normal', async () => {
  const server = new Server();
  await server.at(0, uncaptured('web-1'));
  await server.at(15_000, uncaptured('web-1'));
  await server.at(20_000);
  await server.at(25_000);
  assert.deepEqual(
    server.sent.map(({ body }) => [body['type'], body['reason']]),
    [
      ['Warning', 'NotCaptured'],
      ['Normal', 'Captured'],
    ],
  );
});

test('another note is another event, a minute after the one before at the soonest', async () => {
  const server = new Server();
  await server.at(0, uncaptured('web-1'));
  await server.at(15_000, uncaptured('web-1'));
  await server.at(16_000, uncaptured('web-1', 'another'));
  assert.equal(server.sent.length, 1);
  await server.at(15_000 + minute, uncaptured('web-1', 'another'));
  assert.deepEqual(
    server.sent.map(({ body }) => body['note']),
    ['no agent', 'another'],
  );
  assert.equal(server.events.size, 2);
});

test('a controller that starts again goes on with the event that is there', async () => {
  const server = new Server();
  await server.at(0, uncaptured('web-1'));
  await server.at(15_000, uncaptured('web-1'));
  server.writer = server.restarted();
  await server.at(20_000, uncaptured('web-1'));
  await server.at(40_000, uncaptured('web-1'));
  assert.equal(server.events.size, 1);
  assert.deepEqual(
    server.sent.map(({ method }) => method),
    ['POST', 'POST', 'PATCH'],
  );
});

test('ten are told in a turn, and no more than two thousand are known', async () => {
  const server = new Server();
  const many = Array.from({ length: 3000 }, (_, index) => uncaptured(`web-${index}`));
  await server.at(0, ...many);
  for (let turn = 1; turn <= 400; turn++) await server.at(15_000 + turn, ...many);
  assert.equal(server.sent.length, 2000);
  const other = new Server();
  await other.at(0, ...many);
  await other.at(15_000, ...many);
  assert.equal(other.sent.length, 10);
});

test('an event about an object without a namespace is in "default"', async () => {
  const server = new Server();
  const node: Condition = {
    regarding: { kind: 'Node', namespace: '', name: 'n1.example.test', uid: 'uid-n1' },
    reason: 'NoAgent',
    note: 'n',
    afterMs: 0,
    over: () => null,
  };
  await server.at(0, node);
  const [sent] = server.sent;
  assert.equal(sent?.path, '/apis/events.k8s.io/v1/namespaces/default/events');
  assert.deepEqual(sent.body['regarding'], { apiVersion: 'v1', kind: 'Node', name: 'n1.example.test', uid: 'uid-n1' });
  await server.at(1000);
  assert.equal(server.sent.length, 1);
});

test('while the API server refuses, it is asked less and less, and what is over meanwhile is not told', async () => {
  const server = new Server();
  server.failure = refusal(403, 'events.events.k8s.io is forbidden');
  await server.at(0, uncaptured('web-1'), uncaptured('web-2'));
  for (let at = 15_000; at < 10 * minute; at += 5000) await server.at(at, uncaptured('web-1'), uncaptured('web-2'));
  assert.ok(server.sent.length <= 8, `${server.sent.length} requests`);
  assert.match(server.writer.problem ?? '', /events cannot be written.*forbidden/);
  server.failure = null;
  server.sent.length = 0;
  await server.at(30 * minute, uncaptured('web-2'));
  assert.deepEqual(
    server.sent.map(({ body }) => (body['regarding'] as { name: string }).name),
    ['web-2'],
  );
  assert.equal(server.writer.problem, null);
});

test('one that is refused alone stops no other: its namespace is being deleted', async () => {
  for (const failure of [refusal(403, 'forbidden because it is being terminated'), refusal(422)]) {
    const server = new Server();
    server.failure = failure;
    await server.at(0, uncaptured('web-1'));
    await server.at(15_000, uncaptured('web-1'));
    server.failure = null;
    await server.at(20_000, uncaptured('web-1'), uncaptured('web-2'));
    await server.at(40_000, uncaptured('web-1'), uncaptured('web-2'));
    assert.deepEqual(
      server.sent.map(({ body }) => (body['regarding'] as { name: string }).name),
      ['web-1', 'web-2'],
    );
    assert.equal(server.writer.problem, null);
  }
});

test('a note of any length has at most 1,024 bytes, whatever its letters', async () => {
  for (const letter of ['x', 'ü', '𝄞']) {
    const server = new Server();
    await server.at(0, { ...uncaptured('web-1', letter.repeat(3000)), afterMs: 0 });
    const note = String(server.sent[0]?.body['note']);
    assert.ok(Buffer.byteLength(note) <= 1024 && Buffer.byteLength(note) > 1000, `${Buffer.byteLength(note)}`);
  }
});

function podIn(namespace: string, name: string, note = 'no agent'): Condition {
  return { ...uncaptured(name, note), regarding: { kind: 'Pod', namespace, name, uid: `uid-${namespace}-${name}` } };
}

const silentNode: Condition = {
  regarding: { kind: 'Node', namespace: '', name: 'n1', uid: 'uid-n1' },
  reason: 'AgentSilent',
  note: 'the agent is silent',
  afterMs: 0,
  over: () => null,
};

function toldIn(server: Server, name: string): boolean {
  return server.sent.some(({ body }) => (body['regarding'] as { name?: string } | undefined)?.name === name);
}

test('a namespace that has as many conditions as can be known, and notes that change, silences neither nodes nor others', async () => {
  const server = new Server();
  let turn = 0;
  /** 2,000 pods, of which 150 have another note in each turn. */
  const crowd = () =>
    Array.from({ length: 2000 }, (_, index) =>
      podIn('crowd', `web-${index}`, index < 150 ? `note ${turn}` : 'no agent'),
    );
  const next = (...more: readonly Condition[]) => server.at(++turn * 5000, ...crowd(), ...more);
  for (let before = 0; before < 300; before++) await next();
  assert.equal(server.sent.length, 2970, 'all turns are full');
  await next(silentNode, podIn('shop', 'web'));
  assert.ok(toldIn(server, 'n1'), 'the node is told in the first turn');
  // Three turns until it has stood for its time.
  for (let more = 0; more < 3; more++) await next(silentNode, podIn('shop', 'web'));
  assert.ok(toldIn(server, 'web'), 'the other namespace is told in the turn in which it is due');
});

test('what waits longest is told first, so notes that change hold up nothing of their own namespace', async () => {
  const server = new Server();
  let turn = 0;
  const next = (...more: readonly Condition[]) => {
    const changing = Array.from({ length: 150 }, (_, index) => podIn('shop', `web-${index}`, `note ${turn}`));
    return server.at(++turn * 5000, ...changing, ...more);
  };
  for (let before = 0; before < 100; before++) await next();
  // Each of the 150 is told every 15 turns; the new one is due after 3 and waits for those before it.
  for (let more = 0; more < 20; more++) await next(podIn('shop', 'late'));
  assert.ok(toldIn(server, 'late'));
});

test('nodes have three places in a turn, and namespaces share the others', async () => {
  const server = new Server();
  const nodes = Array.from({ length: 50 }, (_, index): Condition => {
    return { ...silentNode, regarding: { ...silentNode.regarding, name: `n${index}`, uid: `uid-n${index}` } };
  });
  const pods = ['a', 'b', 'c'].flatMap((namespace) =>
    Array.from({ length: namespace === 'a' ? 100 : 3 }, (_, index) => ({
      ...podIn(namespace, `${namespace}-${index}`),
      afterMs: 0,
    })),
  );
  await server.at(0, ...pods, ...nodes);
  const names = server.sent
    .map(({ body }) => (body['regarding'] as { name: string }).name.slice(0, 1))
    .sort((a, b) => a.localeCompare(b));
  assert.deepEqual(names, ['a', 'a', 'a', 'b', 'b', 'c', 'c', 'n', 'n', 'n']);
});

test('a namespace whose events fail holds up no other for longer than a pause', async () => {
  const server = new Server();
  server.failure = refusal(500);
  server.failing = '/namespaces/shop/';
  const all = [podIn('shop', 'web'), podIn('bank', 'ledger')];
  await server.at(0, ...all);
  await server.at(15_000, ...all);
  await server.at(20_000, ...all);
  assert.ok(server.events.size === 1 && toldIn(server, 'ledger'));
});
