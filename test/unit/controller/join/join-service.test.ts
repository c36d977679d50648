import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JoinService } from '../../../../controller/join/join-service.js';
import type { JoinTokens } from '../../../../controller/join/join-tokens.js';
import type { NodeCredentials } from '../../../../controller/join/node-credentials.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

const accountToken = 'eyJhbGciOiJub25lIn0.e30.c2lnbmF0dXJl';

/** One that comes no further than the question about a token of a service account, and how often it asks that. */
function asking(review: () => Promise<{ isGood: false; problem: string }>): (source: string) => Promise<string> {
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
    log: silentLog,
    nowMs: () => 0,
    statement: beyond,
    begin: beyond,
    onJoined: beyond,
    onRefused: () => undefined,
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

function deferred<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => (resolve = done));
  return { promise, resolve };
}
