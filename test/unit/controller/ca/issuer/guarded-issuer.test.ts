import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExternalIssuer, Wanted } from '../../../../../controller/ca/issuer/external-issuer.js';
import { GuardedIssuer } from '../../../../../controller/ca/issuer/guarded-issuer.js';
import { issuerError, IssuerUnready, quoted } from '../../../../../controller/ca/issuer/issuer-error.js';
import { IssuerTurns } from '../../../../../controller/ca/issuer/issuer-turns.js';

const wanted: Wanted = { kind: 'node', csrPem: '', uris: [], dnsNames: [], ipAddresses: [], ttlMs: 1000 };

function issuerThat(sign: () => Promise<string>): ExternalIssuer {
  return {
    kind: 'vault',
    place: 'Vault',
    sign,
    maintain: async () => undefined,
    authorities: async () => null,
    close: () => undefined,
  };
}

test('what may pass is tried three times, and an issuer that is down is asked rarely, by one at a time', async () => {
  let asked = 0;
  let isUp = false;
  let nowMs = 0;
  const outcomes: string[] = [];
  const guarded = new GuardedIssuer({
    issuer: issuerThat(async () => {
      asked++;
      if (!isUp) throw issuerError('ISSUER_UNREACHABLE', 'down', 'wait');
      return 'signed';
    }),
    monotonicMs: () => nowMs,
    random: () => 0,
    onAsked: (outcome) => outcomes.push(outcome),
  });
  const ask = (): Promise<string> => guarded.sign(wanted, 'host-a');
  await assert.rejects(ask(), { code: 'ISSUER_UNREACHABLE' });
  assert.equal(asked, 3);
  await assert.rejects(ask(), { message: 'down' });
  assert.equal(asked, 3, 'at once, without asking');
  for (const pauseMs of [1000, 2000, 4000]) {
    nowMs += pauseMs;
    const results = await Promise.allSettled([ask(), ask(), ask()]);
    assert.ok(results.every(({ status }) => status === 'rejected'));
  }
  assert.equal(asked, 6, 'one for each time');
  nowMs += 60_000;
  isUp = true;
  assert.equal(await ask(), 'signed');
  assert.equal(await ask(), 'signed');
  assert.deepEqual(outcomes.slice(-3), ['ISSUER_UNREACHABLE', 'signed', 'signed']);
  guarded.close();
});

test('an issuer that says when to ask again is left alone until then', async () => {
  let asked = 0;
  let nowMs = 0;
  let retryAfterMs = 90_000;
  const guarded = new GuardedIssuer({
    issuer: issuerThat(async () => {
      asked++;
      throw new IssuerUnready({ code: 'ISSUER_BUSY', message: 'busy', hint: 'wait', retryAfterMs });
    }),
    monotonicMs: () => nowMs,
    random: () => 0,
  });
  const ask = (): Promise<void> => assert.rejects(guarded.sign(wanted, 'host-a'), { message: 'busy' });
  await ask();
  assert.equal(asked, 1, 'no retry before the time that it asks for');
  nowMs = 89_999;
  await ask();
  assert.equal(asked, 1, 'and no other request');
  nowMs = 90_000;
  retryAfterMs = 0;
  await ask();
  assert.equal(asked, 2);
  nowMs += 1499;
  await ask();
  assert.equal(asked, 2, 'a time that is shorter than the own pause does not shorten it');
  guarded.close();
});

test('what the issuer refuses is not tried again, and stops no other request', async () => {
  let asked = 0;
  const guarded = new GuardedIssuer({
    issuer: issuerThat(async () => {
      if (asked++ === 0) throw issuerError('ISSUER_REFUSED', 'not this name', 'another');
      return 'signed';
    }),
  });
  await assert.rejects(guarded.sign(wanted, 'host-a'), { code: 'ISSUER_REFUSED' });
  assert.equal(asked, 1);
  assert.equal(await guarded.sign(wanted, 'host-a'), 'signed');
  const over = AbortSignal.abort();
  await assert.rejects(guarded.sign(wanted, 'host-a', over), { code: 'ISSUER_FULL' });
  guarded.close();
});

test('a node that asks for many waits behind one that asks for one, and cannot fill the queue', async () => {
  const turns = new IssuerTurns({ maxRunning: 2, maxWaiting: 3 });
  const order: string[] = [];
  const ends: (() => void)[] = [];
  const task = (name: string) => (): Promise<string> =>
    new Promise((resolve) => {
      order.push(name);
      ends.push(() => resolve(name));
    });
  const greedy = ['a1', 'a2', 'a3', 'a4', 'a5', 'a6'].map((name) => turns.run('a', task(name)));
  const modest = turns.run('b', task('b1'));
  assert.equal(await greedy.at(-1), null, 'two run and three wait');
  assert.equal(turns.size, 6);
  while (order.length < 6 || ends.length > 0) {
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(await modest, 'b1');
  assert.deepEqual(order, ['a1', 'a2', 'a3', 'b1', 'a4', 'a5']);
  assert.equal(turns.size, 0);
});

test('what an issuer writes is one short line', () => {
  assert.equal(
    quoted('1 error occurred:\n\t* permission denied\u001b[31m\n'),
    '1 error occurred: * permission denied [31m',
  );
  assert.ok(quoted('x'.repeat(10_000)).length < 310);
});
