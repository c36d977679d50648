import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import type { HistoryItem, RollbackAnswer } from '../../../controller/api/api-types.js';
import type { RunningController } from '../../../controller/app.js';
import { buckets, rulesPointerKey } from '../../../shared/bus/subjects.js';
import { rulesPointerSchema } from '../../../shared/wire/rules-pointer.js';
import type { NatsFixture } from '../../support/bus/bus-fixture.js';
import {
  callApi,
  eventually,
  startedController,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { operatorsNats } from '../../support/controller/operators-nats.js';

/** A rule that only its owner tells from the one before. */
const rule = (owner: string): string =>
  JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: 'open' },
    spec: { priority: 100, action: 'allow', from: [{ namespace: 'shop' }], to: [{ namespace: 'shop' }], owner },
  });

async function change(controller: RunningController, owner: string, message: string): Promise<void> {
  const answer = await callApi(controller, 'POST', '/v1/apply', { body: { documents: rule(owner), message } });
  assert.equal(answer.status, 200, answer.text);
}

/** Registers `shop/api`, which costs no revision. */
async function registerApi(controller: RunningController): Promise<void> {
  const documents = workloadDocument('shop', 'api', { ip: '198.18.1.1', labels: { app: 'api' } });
  const answer = await callApi(controller, 'POST', '/v1/apply', { body: { documents, message: 'no revision' } });
  assert.equal(answer.status, 200, answer.text);
}

async function isRegistered(controller: RunningController): Promise<boolean> {
  const item = await callApi(controller, 'GET', '/v1/resources/Workload/api?namespace=shop');
  return item.status === 200;
}

async function historyOf(controller: RunningController): Promise<string[]> {
  const { body } = await callApi(controller, 'GET', '/v1/history');
  return (body as HistoryItem[]).map(
    ({ revision, message, areChangesKnown }) => `${revision} ${message ?? '-'}${areChangesKnown ? '' : ' (unknown)'}`,
  );
}

function rollback(controller: RunningController, revision: number) {
  return callApi(controller, 'POST', '/v1/rollback', { body: { revision } });
}

/** What agents hear, as another client of these servers reads it. */
async function revisionInStore(nats: NatsFixture): Promise<number> {
  const rules = await (await nats.controller()).bucket(buckets.rules);
  const pointer = await rules.get(rulesPointerKey);
  return rulesPointerSchema.parse(JSON.parse(new TextDecoder().decode(pointer?.value))).revision;
}

test("history and rollback work on the operator's own NATS, and survive a restart of both and a wiped store", async () => {
  await using directory = await temporaryDirectory();
  await using operator = await operatorsNats();
  const { nats, changes } = operator;
  {
    await using controller = await startedController(directory.path, { changes });
    await registerApi(controller);
    await change(controller, 'one', 'first');
    await change(controller, 'two', 'second');
    assert.deepEqual(await historyOf(controller), ['3 second', '2 first', '1 -']);
    const back = await rollback(controller, 2);
    assert.equal((back.body as RollbackAnswer).revision, 4, back.text);
    assert.equal(await revisionInStore(nats), 4);
  }
  await using controller = await startedController(directory.path, { changes });
  const before = await historyOf(controller);
  assert.deepEqual(before.slice(1), ['3 second', '2 first', '1 -']);

  const { port } = nats.server;
  await nats.server.stop();
  const refused = await rollback(controller, 3);
  assert.equal(refused.status, 503, refused.text);
  assert.deepEqual(await historyOf(controller), before, 'a rollback that was refused leaves no trace');

  // The operator loses the store, not the keys.
  await rm(path.join(nats.stateDir, 'nats', 'store'), { recursive: true });
  await nats.startServer(port);
  const again = await eventually('a rollback is possible again', async () => {
    const answer = await rollback(controller, 3);
    return answer.status === 200 ? (answer.body as RollbackAnswer) : undefined;
  });
  assert.equal(again.revision, 5);
  assert.equal(await revisionInStore(nats), 5);
  const item = await callApi(controller, 'GET', '/v1/resources/SegmentationRule/open');
  assert.match(item.text, /"owner":"two"/);
  assert.ok(await isRegistered(controller), 'the inventory is as it was');
});

test("a controller that lost its journal takes the state over from the operator's NATS, and its history begins there", async () => {
  await using directory = await temporaryDirectory();
  await using operator = await operatorsNats();
  const { nats, changes } = operator;
  {
    await using controller = await startedController(directory.path, { changes });
    await registerApi(controller);
    await change(controller, 'one', 'first');
    await change(controller, 'two', 'second');
  }
  await rm(path.join(directory.path, 'journal.log'));
  await using controller = await startedController(directory.path, { changes });
  assert.deepEqual(await historyOf(controller), ['3 - (unknown)']);
  assert.equal((await rollback(controller, 2)).status, 404);
  await change(controller, 'three', 'third');
  const back = await rollback(controller, 3);
  assert.equal((back.body as RollbackAnswer).revision, 5, back.text);
  assert.equal(await revisionInStore(nats), 5);
  const item = await callApi(controller, 'GET', '/v1/resources/SegmentationRule/open');
  assert.match(item.text, /"owner":"two"/);
  assert.ok(await isRegistered(controller), 'the inventory is as it was');
});
