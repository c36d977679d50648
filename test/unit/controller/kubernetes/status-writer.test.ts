import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KubernetesError } from '../../../../controller/kubernetes/kubernetes-error.js';
import { statusOf, statusPatch, writtenStatus } from '../../../../controller/kubernetes/object-status.js';
import { ownRuleKind, readRuleObject, type RuleObject } from '../../../../controller/kubernetes/rule-object.js';
import { StatusWriter, type StatusToWrite } from '../../../../controller/kubernetes/status-writer.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';

const { signal } = new AbortController();

class Written {
  readonly sent: string[] = [];
  asked = 0;
  elapsedMs = 0;
  failure: Error | null = null;
  /** Part of the paths that fail. */
  failing = '';
  readonly writer = new StatusWriter({
    api: {
      send: async ({ path, body }) => {
        this.asked++;
        if (this.failure !== null && path.includes(this.failing)) throw this.failure;
        this.sent.push(path);
        this.last = (body as { status: object }).status;
        return {};
      },
    },
    log: silentLog,
    nowMs: () => 0,
    elapsedMs: () => this.elapsedMs,
  });
  last: object = {};
}

function object(name: string, status: object = {}): RuleObject {
  const read = readRuleObject(ownRuleKind('PeerAuthentication'), { metadata: { namespace: 'shop', name }, spec: {} });
  return { ...read, status: writtenStatus(status) };
}

function wanted(read: RuleObject, o: { agents?: number; revision?: number } = {}): StatusToWrite {
  const { agents = 3, revision = 1 } = o;
  const accepted = { status: 'True', reason: 'Accepted', message: '' } as const;
  const numbers = { enforcing: agents, all: agents };
  const status = statusOf({
    generation: 1,
    accepted,
    revision,
    earlierRevision: null,
    agents: numbers,
    warnings: [],
  });
  return { object: read, status };
}

function statusWritten(agents: number): object {
  const { status } = wanted(object('web'), { agents });
  return (statusPatch(status, {}, '2026-01-01T00:00:00Z') as { readonly status: object }).status;
}

test('at most 20 are written in a turn, at the subresource, and not again while the watch has not told of it', async () => {
  const { writer, sent } = new Written();
  const all = Array.from({ length: 50 }, (_, index) => wanted(object(`o${index}`)));
  for (const count of [20, 40, 50, 50]) {
    await writer.write(all, signal);
    assert.equal(sent.length, count);
  }
  assert.equal(sent[0], '/apis/culvert.dev/v1/namespaces/shop/peerauthentications/o0/status');
});

test('a status that differs in the number of agents waits, and one that says something else does not', async () => {
  const written = new Written();
  const { writer, sent } = written;
  await writer.write([wanted(object('web'))], signal);
  const present = object('web', written.last);
  await writer.write([wanted(present, { agents: 4 })], signal);
  assert.equal(sent.length, 1);
  await writer.write([wanted(present, { agents: 4, revision: 2 })], signal);
  assert.equal(sent.length, 2);
  written.elapsedMs += 31_000;
  await writer.write([wanted(object('web', written.last), { agents: 5, revision: 2 })], signal);
  assert.equal(sent.length, 3);
});

test('while the API server refuses, it is asked less and less, and what is wrong is told', async () => {
  const written = new Written();
  const { writer, sent } = written;
  const all = [wanted(object('web'))];
  written.failure = new KubernetesError({ status: 403, message: 'no', hint: '' });
  for (let second = 0; second < 60; second++) {
    await writer.write(all, signal);
    written.elapsedMs += 1000;
  }
  assert.ok(written.asked <= 8, String(written.asked));
  assert.match(writer.problem ?? '', /the status of custom resources cannot be written: no/);
  written.failure = null;
  written.elapsedMs += 60_000;
  await writer.write(all, signal);
  assert.deepEqual([sent.length, writer.problem], [1, null]);
});

test('an object that is gone stops no other', async () => {
  const written = new Written();
  written.failure = new KubernetesError({ status: 404, message: 'gone', hint: '' });
  await written.writer.write([wanted(object('a')), wanted(object('b'))], signal);
  assert.equal(written.writer.problem, null);
});

test('an object whose status is always refused waits alone, longer and longer, and is told', async () => {
  const written = new Written();
  const { writer } = written;
  written.failure = new KubernetesError({ status: 422, message: 'invalid', hint: '' });
  written.failing = '/bad/';
  const all = ['bad', ...Array.from({ length: 30 }, (_, index) => `o${index}`)].map((name) => wanted(object(name)));
  for (let second = 0; second < 25; second++) {
    await writer.write(all, signal);
    written.elapsedMs += 1000;
  }
  assert.equal(written.sent.length, 30);
  const refused = written.asked - written.sent.length;
  assert.ok(refused >= 2 && refused <= 6, String(refused));
  assert.match(writer.problem ?? '', /^the status of PeerAuthentication\/shop\/bad cannot be written: invalid/);
  // It is gone.
  await writer.write(all.slice(1), signal);
  assert.equal(writer.problem, null);
});

test('objects that change in every turn hold up neither another nor its numbers', async () => {
  const written = new Written();
  const { writer, sent } = written;
  const web = '/apis/culvert.dev/v1/namespaces/shop/peerauthentications/web/status';
  const writtenOf = () => sent.filter((path) => path === web).length;
  let present = object('web');
  const turn = async (revision: number, agents: number) => {
    written.elapsedMs += 1000;
    const before = writtenOf();
    const changing = Array.from({ length: 40 }, (_, index) => wanted(object(`o${index}`), { revision }));
    await writer.write([...changing, wanted(present, { agents })], signal);
    if (writtenOf() > before) present = object('web', statusWritten(agents));
  };
  let revision = 1;
  while (revision < 5) await turn(revision++, 3);
  assert.equal(writtenOf(), 1, 'within four turns');
  for (let turns = 0; turns < 70; turns++) await turn(revision++, 4);
  assert.equal(writtenOf(), 2, 'its numbers within 70 s');
});

test('an object whose status fails for any reason holds up no other for longer than a pause', async () => {
  const written = new Written();
  written.failure = new KubernetesError({ message: 'answered 500', hint: '', status: 500 });
  written.failing = '/first/';
  const all = [wanted(object('first')), wanted(object('second'))];
  await written.writer.write(all, signal);
  written.elapsedMs += 2000;
  await written.writer.write(all, signal);
  assert.deepEqual(
    written.sent.map((path) => path.split('/').at(-2)),
    ['second'],
  );
});

test('a status that another writes over is written again within seconds, and not in a circle of every turn', async () => {
  const written = new Written();
  const { writer, sent } = written;
  await writer.write([wanted(object('web'))], signal);
  const own = written.last;
  written.elapsedMs += 1000;
  await writer.write([wanted(object('web', own))], signal);
  const other = object('web', { conditions: [] });
  for (const [afterMs, count] of [
    [1000, 1],
    [1000, 2],
    [1000, 2],
  ] as const) {
    written.elapsedMs += afterMs;
    await writer.write([wanted(other)], signal);
    assert.equal(sent.length, count);
  }
  // It does not come back: the write is on its way, or the other one was faster.
  written.elapsedMs += 5000;
  await writer.write([wanted(other)], signal);
  assert.equal(sent.length, 2);
});
