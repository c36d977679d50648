import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EnrolmentPublisher } from '../../../../controller/publish/enrolment-publisher.js';
import type { Bus, BusStatus } from '../../../../shared/bus/bus.js';
import { buckets, enrolmentKeyFor } from '../../../../shared/bus/subjects.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import type { NodeName } from '../../../../shared/routing/names.js';
import {
  decodeEnrolmentNotice,
  openNodeEnrolment,
  sealNodeEnrolment,
  type NodeEnrolment,
} from '../../../../shared/wire/node-enrolment.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { MemoryBus } from '../../../support/controller/memory-bus.js';
import { nodeNamed } from '../../../support/routing/names.js';

const key = generateSigningKey();
const [n1, n2] = [nodeNamed('n1'), nodeNamed('n2.example')];
type Wanted = Omit<NodeEnrolment, 'version'>;
const shop: Wanted = { namespaces: ['shop'], outside: [] };

class Published implements AsyncDisposable {
  readonly memory: MemoryBus;
  readonly publisher: EnrolmentPublisher;
  wanted: ReadonlyMap<NodeName, Wanted> | null;
  writes: string[] = [];
  nowMs = 1000;
  failures = 0;
  connected: (status: BusStatus) => void = () => undefined;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(wanted: ReadonlyMap<NodeName, Wanted> | null, memory = new MemoryBus()) {
    this.memory = memory;
    this.wanted = wanted;
    memory.beforeWrite = ({ key: written }) => {
      if (this.failures-- > 0) throw new Error('the disk is full');
      this.writes.push(written);
    };
    this.publisher = new EnrolmentPublisher({
      enrolments: () => this.wanted,
      privateKeyPem: key.privateKey,
      nowMs: () => this.nowMs,
      log: silentLog,
    });
    const onStatus: Bus['onStatus'] = (listener) => {
      this.connected = listener;
      return () => undefined;
    };
    this.#running = this.publisher.run({ ...memory.bus, onStatus }, this.#stop.signal);
  }

  say(wanted: ReadonlyMap<NodeName, Wanted> | null): void {
    this.wanted = wanted;
    this.publisher.noteChange();
  }

  async of(node: NodeName): Promise<NodeEnrolment | null> {
    const entry = await this.memory.of(buckets.rules).get(enrolmentKeyFor(node));
    const bytes = this.publisher.sealedFor(node);
    if (entry === undefined || bytes === null) return null;
    const enrolment = openNodeEnrolment({ node, bytes, publicKeysPem: [key.publicKey] });
    return decodeEnrolmentNotice(entry.value)?.version === enrolment.version ? enrolment : null;
  }

  async has(expected: readonly (NodeEnrolment | null)[]): Promise<void> {
    const found = (): Promise<(NodeEnrolment | null)[]> => Promise.all([this.of(n1), this.of(n2)]);
    await eventually('it is published', async () =>
      JSON.stringify(await found()) === JSON.stringify(expected) ? true : undefined,
    ).catch(() => undefined);
    assert.deepEqual(await found(), expected);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

test('each node is told what concerns it, again only when that changes, and nothing before all is known', async () => {
  await using published = new Published(null);
  await published.has([null, null]);
  published.say(
    new Map([
      [n1, shop],
      [n2, shop],
    ]),
  );
  await published.has([
    { version: 1000, ...shop },
    { version: 1000, ...shop },
  ]);
  // Versions rise also where the clock does not.
  published.nowMs = 10;
  published.say(
    new Map([
      [n1, shop],
      [n2, { ...shop, outside: ['6e2c'] }],
    ]),
  );
  await published.has([
    { version: 1000, ...shop },
    { version: 1001, namespaces: ['shop'], outside: ['6e2c'] },
  ]);
  assert.deepEqual(published.writes, [n1, n2, n2].map(enrolmentKeyFor));
  published.say(new Map([[n1, shop]]));
  await published.has([{ version: 1000, ...shop }, null]);
});

test('the next controller writes only what differs, with a higher version', async () => {
  const memory = new MemoryBus();
  {
    await using first = new Published(
      new Map([
        [n1, shop],
        [n2, shop],
      ]),
      memory,
    );
    await first.has([
      { version: 1000, ...shop },
      { version: 1000, ...shop },
    ]);
  }
  await using next = new Published(null, memory);
  next.nowMs = 10;
  next.say(
    new Map([
      [n1, shop],
      [n2, { ...shop, namespaces: [] }],
    ]),
  );
  await next.has([
    { version: 1000, ...shop },
    { version: 1001, namespaces: [], outside: [] },
  ]);
  assert.deepEqual(next.writes, [enrolmentKeyFor(n2)]);
});

test('a failure is told and tried again, and a store that was wiped is filled again', async () => {
  await using published = new Published(new Map([[n1, shop]]));
  await published.has([{ version: 1000, ...shop }, null]);
  published.failures = 1;
  published.say(new Map([[n1, { ...shop, outside: ['a'] }]]));
  await eventually('it is told', async () => published.publisher.problem ?? undefined);
  assert.match(
    published.publisher.problem ?? '',
    /nodes are not told which pods wait for their agents: the disk is full/,
  );
  await published.has([{ version: 1001, namespaces: ['shop'], outside: ['a'] }, null]);
  assert.equal(published.publisher.problem, null);
  await published.memory.of(buckets.rules).delete(enrolmentKeyFor(n1));
  published.connected('connected');
  await published.has([{ version: 1000, namespaces: ['shop'], outside: ['a'] }, null]);
});

test('a list that is too large keeps only its own node from a new one, and is told without trying again', async () => {
  const huge: Wanted = { namespaces: Array.from({ length: 9000 }, (_, at) => `${at}-`.padEnd(63, 'x')), outside: [] };
  await using published = new Published(new Map([[n1, shop]]));
  await published.has([{ version: 1000, ...shop }, null]);
  let lists = 0;
  const bucket = published.memory.of(buckets.rules);
  const entries = bucket.entries.bind(bucket);
  bucket.entries = async (...asked) => (lists++, await entries(...asked));
  published.say(
    new Map([
      [n1, huge],
      [n2, shop],
    ]),
  );
  await published.has([
    { version: 1000, ...shop },
    { version: 1000, ...shop },
  ]);
  await eventually('it is told', async () => published.publisher.problem ?? undefined);
  assert.match(published.publisher.problem ?? '', /^n1 keeps the list it has: .* more than the \d+ that fit/);
  assert.equal(lists, 0);
  published.say(new Map([[n1, { ...shop, outside: ['a'] }]]));
  await published.has([{ version: 1001, ...shop, outside: ['a'] }, null]);
  await eventually('it is over', async () => published.publisher.problem === null || undefined);
});

test('of very many pods outside the mesh a node learns the first, and that is told', async () => {
  const outside = Array.from({ length: 20_000 }, (_, at) => `uid-${String(at).padStart(32, '0')}`);
  await using published = new Published(new Map([[n1, { ...shop, outside }]]));
  await published.has([{ version: 1000, ...shop, outside: outside.slice(0, 1000) }, null]);
  await eventually('it is told', async () => published.publisher.problem ?? undefined);
  assert.equal(
    published.publisher.problem,
    '20000 pods of n1 are outside the mesh, and its agent learns 1000 of them: others may not start',
  );
  published.say(published.wanted);
  await published.has([{ version: 1000, ...shop, outside: outside.slice(0, 1000) }, null]);
  assert.deepEqual(published.writes, [enrolmentKeyFor(n1)]);
});

test('what every agent can read says nothing of the pods of a node', async () => {
  await using published = new Published(
    new Map([[n1, { namespaces: ['shop-of-secrets'], outside: ['uid-of-a-pod'] }]]),
  );
  await published.has([{ version: 1000, namespaces: ['shop-of-secrets'], outside: ['uid-of-a-pod'] }, null]);
  const entries = await published.memory.of(buckets.rules).entries();
  assert.equal(entries.length, 1);
  for (const { value } of entries) {
    const text = Buffer.from(value).toString();
    assert.deepEqual(Object.keys(JSON.parse(text) as object), ['version', 'digest']);
    assert.doesNotMatch(text, /shop|uid|payload/);
  }
  assert.equal(published.publisher.sealedFor(n2), null);
  published.say(new Map());
  await eventually('a node that is gone has none', async () => published.publisher.sealedFor(n1) === null || undefined);
});

test('a list that the build before published itself is replaced by a notice of a newer one', async () => {
  const memory = new MemoryBus();
  const before = sealNodeEnrolment({ node: n1, enrolment: { version: 900, ...shop }, privateKeyPem: key.privateKey });
  await memory.of(buckets.rules).put(enrolmentKeyFor(n1), before);
  await using published = new Published(new Map([[n1, shop]]), memory);
  await published.has([{ version: 1000, ...shop }, null]);
});
