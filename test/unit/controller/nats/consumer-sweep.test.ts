import assert from 'node:assert/strict';
import { test } from 'node:test';
import { staleConsumers } from '../../../../controller/nats/consumer-sweep.js';
import type { StreamConsumer } from '../../../../shared/bus/bus.js';
import { controllerInboxPrefix, inboxPrefixFor } from '../../../../shared/bus/subjects.js';
import { nodeNamed } from '../../../support/routing/names.js';

const ownInboxPrefix = `${controllerInboxPrefix}.0123`;
const [member, other] = [nodeNamed('host-a.dc1'), nodeNamed('host-b')];

function consumer(name: string, part: Partial<StreamConsumer> = {}): StreamConsumer {
  const deliverSubject = `${inboxPrefixFor(member)}.X`;
  return { name, deliverSubject, createdMs: 0, hasReader: true, idleMs: 30_000, ...part };
}

const staleNames = (consumers: readonly StreamConsumer[]): string[] =>
  staleConsumers(consumers, { ownInboxPrefix, isMember: (node) => node === member })
    .map(({ name }) => name)
    .sort();

test('what agents and the controller read with stays', () => {
  const ofController = consumer('own', { deliverSubject: `${ownInboxPrefix}.X`, idleMs: null });
  assert.deepEqual(staleNames([consumer('a'), consumer('b', { hasReader: false }), ofController]), []);
});

test('consumers of no member, and those that outlive their readers, go', () => {
  const stale = [
    consumer('fetched', { deliverSubject: null }),
    consumer('foreign', { deliverSubject: 'culvert.v1.status.host-a' }),
    consumer('pretended', { deliverSubject: `${controllerInboxPrefix}.X` }),
    consumer('removed', { deliverSubject: `${inboxPrefixFor(other)}.X` }),
    consumer('durable', { idleMs: null }),
    consumer('long', { idleMs: 3_600_000 }),
  ];
  assert.deepEqual(staleNames([...stale, consumer('kept')]), [
    'durable',
    'fetched',
    'foreign',
    'long',
    'pretended',
    'removed',
  ]);
});

test('a node keeps its sixteen newest with a reader, and four without', () => {
  const many = Array.from({ length: 24 }, (_, index) =>
    consumer(`c${String(index).padStart(2, '0')}`, { createdMs: index, hasReader: index < 18 }),
  );
  assert.deepEqual(staleNames(many), ['c00', 'c01', 'c18', 'c19']);
});
