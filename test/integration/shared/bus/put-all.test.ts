import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Bucket } from '../../../../shared/bus/bucket.js';
import type { Bus } from '../../../../shared/bus/bus.js';
import { CulvertError } from '../../../../shared/errors.js';
import { NatsFixture } from '../../../support/bus/bus-fixture.js';

let nats: NatsFixture;
let bus: Bus;
let other: Bus;

before(async () => {
  nats = await NatsFixture.start();
  bus = await nats.controller();
  other = await nats.controller();
});
after(() => nats[Symbol.asyncDispose]());

function newBucket(name: string, maxBytes = -1): Promise<Bucket> {
  return bus.bucket(name, { create: { history: 1, maxBytes, replicas: 1 } });
}

function valuesOf(count: number, round = 0): Map<string, Uint8Array> {
  return new Map(Array.from({ length: count }, (_, at) => [`key.${at}`, Buffer.from(`${at} of ${round}`)]));
}

async function contentOf(bucket: Bucket): Promise<Map<string, string>> {
  const entries = await bucket.entries();
  entries.sort((a, b) => a.revision - b.revision);
  return new Map(entries.map(({ key, value }) => [key, Buffer.from(value).toString()]));
}

const asText = (values: ReadonlyMap<string, Uint8Array>) =>
  new Map([...values].map(([key, value]) => [key, Buffer.from(value).toString()]));

test('many values are stored in their order, and later values replace them', async () => {
  const bucket = await newBucket('ordered');
  for (const count of [0, 1, 2, 3, 64, 65, 200]) {
    const values = valuesOf(count, count);
    await bucket.putAll(values);
    const stored = await contentOf(bucket);
    assert.deepEqual([...stored].slice(-count || stored.size), [...asText(values)]);
  }
});

test('while another client writes to the bucket, every value is stored', async () => {
  const bucket = await newBucket('shared');
  const theirs = await other.bucket('shared');
  const done = new AbortController();
  let rounds = 0;
  const writer = (async () => {
    while (!done.signal.aborted) await theirs.put('other', Buffer.from(String(rounds++)));
  })();
  for (let round = 0; round < 20; round++) {
    const values = valuesOf(100, round);
    await bucket.putAll(values);
    const stored = await contentOf(bucket);
    stored.delete('other');
    assert.deepEqual(stored, asText(values));
  }
  done.abort();
  await writer;
  assert.ok(rounds > 20, `the other client wrote ${rounds} times`);
});

test('a value that the server refuses between two that it takes is an error', async () => {
  const bucket = await newBucket('small', 64 * 1024);
  const values = new Map([
    ['first', Buffer.from('small')],
    ['second', Buffer.alloc(90 * 1024)],
    ['third', Buffer.from('small')],
  ]);
  await assert.rejects(
    bucket.putAll(values),
    (error) => error instanceof CulvertError && error.code === 'BUS_STORE_FULL',
  );
});

test('a key that is none is refused before anything is written', async () => {
  const bucket = await newBucket('keys');
  const values = new Map(['good', 'with space', 'star.*', 'last'].map((key) => [key, Buffer.from('value')]));
  await assert.rejects(bucket.putAll(values), /with space/);
  assert.deepEqual([...(await contentOf(bucket))], []);
});
