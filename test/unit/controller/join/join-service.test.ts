import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { JoinService } from '../../../../controller/join/join-service.js';
import type { JoinTokens } from '../../../../controller/join/join-tokens.js';
import type { NodeCredentials } from '../../../../controller/join/node-credentials.js';
import type { Log } from '../../../../shared/log.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

const accountToken = 'eyJhbGciOiJub25lIn0.e30.c2lnbmF0dXJl';

/** Joins with a token of a service account that does not count: nothing but the question about it is asked. */
function asking(
  review: () => Promise<{ isGood: false; problem: string }>,
  { log = silentLog, onRefused = () => undefined }: { readonly log?: Log; readonly onRefused?: () => void } = {},
): (source: string) => Promise<string> {
  const beyond = (): never => {
    throw new Error('a request without a token that counts goes no further');
  };
  const joining = new JoinService({
    tokens: {} as JoinTokens,
    review,
    isRemoved: () => false,
    credentials: {} as NodeCredentials,
    nats: beyond,
    trustDomain: 'culvert.test',
    log,
    nowMs: () => 0,
    statement: beyond,
    begin: beyond,
    onJoined: beyond,
    onRefused,
  });
  const request = { node: nodeNamed('n1'), token: accountToken, csrPem: '', natsUserPublicKey: '', version: 'test' };
  return (source) =>
    joining.join(request, source).then(
      () => 'joined',
      (error: unknown) => (error as { readonly code: string }).code,
    );
}

test('a host with many addresses of IPv6 asks the API server of a cluster about as many tokens at once as one with one', async () => {
  let asked = 0;
  const { promise: answer, resolve } = deferred<{ isGood: false; problem: string }>();
  const join = asking(() => {
    asked++;
    return answer;
  });
  const joins = Array.from({ length: 300 }, (_, at) => join(`2001:db8::${(at + 1).toString(16)}`));
  await new Promise(setImmediate);
  assert.equal(asked, 100);
  const other = join('2001:db8:0:1::1');
  await new Promise(setImmediate);
  assert.equal(asked, 101, 'another host has its own');
  resolve({ isGood: false, problem: 'is not one of this cluster' });
  assert.deepEqual(new Set(await Promise.all([...joins, other])), new Set(['TOO_MANY_JOINS', 'ACCOUNT_TOKEN']));
  assert.equal(await join('2001:db8::ffff'), 'TOO_MANY_FAILURES');
});

test('a stranger who joins again and again has a bounded number of lines in the log, and is counted each time', async () => {
  const lines: string[] = [];
  let refused = 0;
  const log = pino({ level: 'warn' }, { write: (line) => lines.push(line) });
  const join = asking(async () => ({ isGood: false, problem: 'is not one of this cluster' }), {
    log,
    onRefused: () => refused++,
  });
  for (let at = 0; at < 300; at++) await join('198.18.0.1');
  assert.deepEqual([lines.length, refused], [50, 300]);
  assert.match(lines[0] ?? '', /198\.18\.0\.1.*refused a join/);
  await join('198.18.0.2');
  assert.equal(lines.length, 51, 'another source has its own');
});

function deferred<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => (resolve = done));
  return { promise, resolve };
}
