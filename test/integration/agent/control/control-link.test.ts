import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { enrolmentKeyFor, subjectFor, subjectForAllNodes } from '../../../../shared/bus/subjects.js';
import { nodeSpiffeId } from '../../../../shared/identity.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { registryKey } from '../../../../shared/routing/registry-entry.js';
import { newestStatementKey, sealNewestStatement } from '../../../../shared/wire/newest-statement.js';
import { encodeEnrolmentNotice } from '../../../../shared/wire/node-enrolment.js';
import { sealAnswer } from '../../../../shared/wire/sealed-answer.js';
import { openRequest } from '../../../../shared/wire/sealed-request.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { LinkFixture, snapshotOf, workloadOf } from '../../../support/agent/agent-link-fixture.js';

const namesOf = (fixture: LinkFixture): string[] => [...fixture.registry.entries.keys()].toSorted();

/** Before the next value of the key: a bucket keeps the last one only, and a slow reader never sees one that was replaced. */
function alarms(fixture: LinkFixture, count: number): Promise<unknown> {
  return waitUntil(`alarm ${count}`, () => fixture.registryAlarms === count || undefined);
}

test('the agent switches to each revision that the pointer names', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(1));
  await fixture.rules.until('revision 1', (seen) => seen.includes(1));
  await fixture.publishRules(snapshotOf(2));
  await fixture.rules.until('revision 2', (seen) => seen.includes(2));
  assert.deepEqual(fixture.rules.items, [1, 2]);
  assert.deepEqual(fixture.alarms.items, []);
});

test('a snapshot that another key signed is refused, and the last good rules stay', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(1));
  await fixture.rules.until('revision 1', (seen) => seen.includes(1));
  await fixture.publishRules(
    snapshotOf(2, { mesh: { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'x' } }),
    {
      key: generateSigningKey(),
    },
  );
  await fixture.alarms.until('alarm', (seen) => seen.includes('unusable'));
  assert.deepEqual(fixture.rules.items, [1]);
  assert.ok(fixture.hasLogged('"alarm":"unusable"') && fixture.hasLogged('not signed with a key'));
  await fixture.publishRules(snapshotOf(3));
  await fixture.rules.until('revision 3', (seen) => seen.includes(3));
});

test('a rollback is a later revision with the content of an old one, and is taken like any other', async () => {
  await using fixture = await LinkFixture.start();
  const open = { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'x' } as const;
  for (const [revision, mesh] of [open, { ...open, defaultAction: 'deny' as const }, open].entries()) {
    await fixture.publishRules(snapshotOf(revision + 1, { mesh }));
    await fixture.rules.until(`revision ${revision + 1}`, (seen) => seen.includes(revision + 1));
  }
  assert.deepEqual(fixture.rules.items, [1, 2, 3]);
  assert.deepEqual(fixture.alarms.items, []);
});

test('why rules were refused is known until good ones come', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(1));
  await fixture.rules.until('revision 1', (seen) => seen.includes(1));
  assert.equal(fixture.link.rulesAlarm, null);
  await fixture.publishRules(snapshotOf(2), { key: generateSigningKey() });
  await fixture.alarms.until('alarm', (seen) => seen.includes('unusable'));
  assert.match(fixture.link.rulesAlarm ?? '', /the snapshot of revision 2 is refused/);
  await fixture.publishRules(snapshotOf(3));
  await fixture.rules.until('revision 3', (seen) => seen.includes(3));
  assert.equal(fixture.link.rulesAlarm, null);
});

test('bytes that were changed under the pointer are refused by their hash', async () => {
  await using fixture = await LinkFixture.start();
  const sealed = await fixture.publishRules(snapshotOf(1));
  await fixture.rules.until('revision 1', (seen) => seen.includes(1));
  await fixture.point(2, sealed);
  await fixture.alarms.until('alarm', (seen) => seen.includes('unusable'));
  await fixture.publishRules(snapshotOf(2), { pointsTo: 3 });
  await fixture.logLines.until('a snapshot under a wrong number', (lines) =>
    lines.some((line) => line.includes('it says that it is revision 2')),
  );
  await fixture.publishRules(snapshotOf(4, { trustDomain: 'elsewhere.test' }));
  await fixture.logLines.until('a snapshot of another mesh', (lines) =>
    lines.some((line) => line.includes('belongs to the trust domain elsewhere.test')),
  );
  assert.deepEqual(fixture.rules.items, [1]);
});

test('a revision that goes backwards is an alarm, told once, and not an update', async () => {
  await using fixture = await LinkFixture.start();
  const old = await fixture.publishRules(snapshotOf(1));
  await fixture.publishRules(snapshotOf(5));
  await fixture.rules.until('revision 5', (seen) => seen.includes(5));
  await fixture.point(1, old);
  await fixture.alarms.until('alarm', (seen) => seen.includes('backwards'));
  await fixture.point(1, old);
  await fixture.publishRules(snapshotOf(6));
  await fixture.rules.until('revision 6', (seen) => seen.includes(6));
  assert.deepEqual(fixture.alarms.items, ['backwards']);
  assert.deepEqual(fixture.rules.items.slice(-2), [5, 6]);
});

test('other content under the revision in force is an alarm', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(1));
  await fixture.rules.until('revision 1', (seen) => seen.includes(1));
  await fixture.publishRules(snapshotOf(1, { createdBy: 'another user' }));
  await fixture.alarms.until('alarm', (seen) => seen.includes('backwards'));
  assert.deepEqual(fixture.rules.items, [1]);
});

const web = registryKey(workloadOf('web'));
const db = registryKey(workloadOf('db'));

test('the registry follows changes, and an empty one is complete when its list says so', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishList({});
  await fixture.registryMessages.until('the empty list', (seen) => seen.some((message) => message.isFull));
  assert.ok(fixture.registry.isComplete);
  await fixture.publishWorkload(workloadOf('web'), { sequence: 2 });
  await fixture.registryMessages.until('web', (seen) => seen.some((message) => message.upserts.length === 1));
  await fixture.publishList({}, { sequence: 3 });
  await fixture.registryMessages.until('web gone', (seen) => seen.some((message) => message.removals.length === 1));
  assert.deepEqual(namesOf(fixture), []);
});

test('a registry is complete only when all that its list names is there', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishWorkload(workloadOf('web'), { sequence: 4 });
  await fixture.publishWorkload(workloadOf('db'), { sequence: 2 });
  await fixture.publishList({ [web]: 4, [db]: 3 }, { sequence: 4 });
  await fixture.logLines.until('what is missing', () => fixture.hasLogged('lacks pages or entries'));
  assert.deepEqual([fixture.registry.isComplete, fixture.registry.missing], [false, 1]);
  assert.equal(fixture.registryAlarms, 1);
  assert.deepEqual(fixture.registryMessages.items, []);
  await fixture.publishWorkload(workloadOf('db'), { sequence: 3 });
  await fixture.registryMessages.until('the whole', (seen) => seen.some((message) => message.isFull));
  assert.deepEqual([fixture.registryMessages.items.length, fixture.registry.missing], [1, 0]);
});

test('only the controller removes a workload: neither a deletion nor a forged or old list does', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(1));
  await fixture.publishList({}, { sequence: 1 });
  await fixture.publishWorkload(workloadOf('web'), { sequence: 2 });
  await fixture.publishList({ [web]: 2 }, { sequence: 2 });
  await fixture.registryMessages.until('web', () => fixture.registry.entries.size === 1);
  await fixture.registryBucket.delete(web);
  await fixture.logLines.until('the deletion', () => fixture.hasLogged('is gone from NATS'));
  await fixture.publishList({}, { sequence: 3, key: generateSigningKey() });
  await alarms(fixture, 1);
  await fixture.publishList({}, { sequence: 1 });
  await alarms(fixture, 2);
  await fixture.registryBucket.delete('list');
  await fixture.publishWorkload(workloadOf('db'), { sequence: 3 });
  await fixture.registryMessages.until('db', () => fixture.registry.entries.size === 2);
  assert.equal(fixture.registryAlarms, 2);
  assert.ok(fixture.registryMessages.items.every(({ removals }) => removals.length === 0));
  // An entry that is newer than the list is not left out by it.
  await fixture.publishList({ [web]: 2 }, { sequence: 2 });
  await fixture.publishList({ [db]: 3 }, { sequence: 4 });
  await fixture.registryMessages.until('web gone', () => fixture.registry.entries.size === 1);
  assert.deepEqual(namesOf(fixture), [db]);
});

test('a registry entry that is forged or older than the one held changes nothing', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(1));
  await fixture.publishList({}, { sequence: 1 });
  await fixture.publishWorkload(workloadOf('web', 1), { sequence: 10 });
  await fixture.registryMessages.until('web', () => fixture.registry.entries.size === 1);
  await fixture.publishWorkload(workloadOf('web', 2), { sequence: 9 });
  await alarms(fixture, 1);
  await fixture.publishWorkload(workloadOf('web', 3), { sequence: 11, key: generateSigningKey() });
  await fixture.publishWorkload(workloadOf('db'), { sequence: 12 });
  await fixture.registryMessages.until('db', () => fixture.registry.entries.size === 2);
  assert.equal(fixture.registryAlarms, 2);
  const [held] = [...fixture.registry.entries.values()];
  assert.deepEqual(held?.entry, workloadOf('web', 1));
});

test('a restarted nats-server is found again, and what changed meanwhile arrives', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(1));
  await fixture.rules.until('revision 1', (seen) => seen.includes(1));
  const { port } = fixture.nats.server;
  await fixture.nats.server.stop();
  await fixture.nats.startServer(port);
  await fixture.openBuckets();
  await fixture.publishRules(snapshotOf(2));
  await fixture.rules.until('revision 2', (seen) => seen.includes(2), 30_000);
  assert.equal(fixture.link.isConnected, true);
});

test('a wiped store takes neither rules nor workloads away', async () => {
  await using fixture = await LinkFixture.start();
  await fixture.publishRules(snapshotOf(7));
  await fixture.publishWorkload(workloadOf('web'), { sequence: 7 });
  await fixture.publishList({ [web]: 7 }, { sequence: 7 });
  await fixture.rules.until('revision 7', (seen) => seen.includes(7));
  await fixture.registryMessages.until('web', () => fixture.registry.isComplete);
  const { port } = fixture.nats.server;
  await fixture.nats.server.stop();
  await rm(join(fixture.nats.stateDir, 'nats', 'store'), { recursive: true });
  await fixture.nats.startServer(port);
  await fixture.openBuckets();
  await fixture.logLines.until('the empty bucket', () => fixture.hasLogged('is gone from NATS'), 30_000);
  assert.deepEqual(namesOf(fixture), [web]);
  assert.deepEqual(fixture.rules.items, [7]);
  await fixture.publishRules(snapshotOf(8));
  await fixture.rules.until('revision 8', (seen) => seen.includes(8), 30_000);
  assert.deepEqual(namesOf(fixture), [web], 'not before the controller says so');
  await fixture.publishList({}, { sequence: 8 });
  await fixture.registryMessages.until('web gone', () => fixture.registry.entries.size === 0, 20_000);
});

test('an agent that never had rules takes no replayed ones, and reads what the controller says is the newest', async () => {
  await using fixture = await LinkFixture.start({ leastRevision: 2 });
  const statement = sealNewestStatement({
    statement: { atMs: 1, revision: 2, registrySequence: 0 },
    privateKeyPem: fixture.signingKey.privateKey,
  });
  await fixture.rulesBucket.put(newestStatementKey, statement);
  await fixture.publishRules(snapshotOf(1));
  await fixture.alarms.until('alarm', (seen) => seen.includes('backwards'));
  assert.deepEqual(fixture.rules.items, []);
  await fixture.publishRules(snapshotOf(2));
  await fixture.rules.until('revision 2', (seen) => seen.includes(2));
  await fixture.statements.until('the statement', (seen) => seen.length > 0);
  assert.deepEqual(Buffer.from(fixture.statements.items[0] ?? []), Buffer.from(statement));
});

test('what is said of pods that wait for this agent arrives, a deletion does not, and that for others is not read', async () => {
  await using fixture = await LinkFixture.start();
  const [own, other] = [nodeNamed('node1'), nodeNamed('node2')].map(enrolmentKeyFor) as [string, string];
  await fixture.rulesBucket.put(other, Buffer.from('of another'));
  await fixture.rulesBucket.put(own, Buffer.from('one'));
  const texts = (seen: readonly Uint8Array[]): string[] => seen.map((bytes) => Buffer.from(bytes).toString());
  await fixture.enrolments.until('the first', (seen) => texts(seen).includes('one'));
  await fixture.rulesBucket.delete(own);
  await fixture.rulesBucket.put(own, Buffer.from('two'));
  await fixture.enrolments.until('the second', (seen) => texts(seen).includes('two'));
  assert.deepEqual(texts(fixture.enrolments.items), ['one', 'two']);
});

test('a notice of a list makes the agent ask the controller for its own, signed with the key of its node', async () => {
  await using fixture = await LinkFixture.start();
  const node = nodeNamed('node1');
  const asked: string[] = [];
  fixture.controller.serve(
    subjectForAllNodes('enrolment'),
    async ({ subject, bytes }) => {
      asked.push(subject);
      const { rootPem: rootsPem } = fixture.nats.ca.root;
      openRequest({ subject, bytes, spiffeId: nodeSpiffeId('mesh.test', node), rootsPem, nowMs: Date.now() });
      const { privateKey: privateKeyPem } = fixture.signingKey;
      return sealAnswer({ asked: { subject, request: bytes }, answer: { list: 'the list' }, privateKeyPem });
    },
    (error) => assert.fail(String(error)),
  );
  await fixture.rulesBucket.put(enrolmentKeyFor(node), encodeEnrolmentNotice({ version: 7, digest: '' }));
  await fixture.enrolments.until('the list', (seen) =>
    seen.some((bytes) => Buffer.from(bytes).toString() === 'the list'),
  );
  assert.equal(asked[0], subjectFor('enrolment', node));
});
