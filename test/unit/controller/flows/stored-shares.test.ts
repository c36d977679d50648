import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StoredShares } from '../../../../controller/flows/stored-shares.js';
import { nodeNamed } from '../../../support/routing/names.js';

const maxBytes = 100_000;
const [quiet, loud, busy] = [nodeNamed('quiet'), nodeNamed('loud'), nodeNamed('busy')];

/** `send`: messages of 900 bytes and 100 of overhead. */
function newShares() {
  const shares = new StoredShares({ maxBytes });
  let sequence = 0;
  const send = (node: typeof quiet, count: number, storedAtMs = 0): number => {
    for (let sent = 0; sent < count; sent++) shares.add(node, { sequence: ++sequence, sizeBytes: 900, storedAtMs });
    return sequence;
  };
  return { shares, send };
}

test('nothing goes while the stream has room', () => {
  const { shares, send } = newShares();
  send(quiet, 75);
  assert.equal(shares.isTooFull, false);
});

test('a node that floods gives up its own oldest, and no other does', () => {
  const { shares, send } = newShares();
  send(quiet, 20);
  send(busy, 20);
  const first = send(loud, 1);
  send(loud, 39);
  assert.ok(shares.isTooFull);
  const excess = shares.takeExcess();
  assert.deepEqual(
    excess.map(({ node }) => node),
    [loud],
  );
  assert.equal(excess[0]?.upTo, first + 9, 'the ten oldest, down to 70 of 100');
  assert.equal(shares.isTooFull, false);
});

test('when several nodes use as much, each gives up some', () => {
  const { shares, send } = newShares();
  for (let round = 0; round < 40; round++) {
    send(loud, 1);
    send(busy, 1);
  }
  assert.deepEqual(
    shares
      .takeExcess()
      .map(({ node }) => node)
      .sort(),
    [busy, loud],
  );
});

test('what the store has dropped by age does not count, nor what another stream had', () => {
  const day = 86_400_000;
  const { shares, send } = newShares();
  send(quiet, 70, 0);
  send(loud, 10, 3 * day);
  shares.forget(day);
  assert.equal(shares.isTooFull, false);
  send(loud, 66, 3 * day);
  assert.ok(shares.isTooFull);
  assert.equal(shares.add(quiet, { sequence: 1, sizeBytes: 900, storedAtMs: 4 * day }), false);
  assert.equal(shares.isTooFull, false);
});

test('a stream that lost its end in a crash keeps what it had before', () => {
  const { shares, send } = newShares();
  send(loud, 70);
  send(quiet, 10);
  assert.equal(shares.add(quiet, { sequence: 79, sizeBytes: 900, storedAtMs: 0 }), false);
  assert.ok(shares.isTooFull, 'only the two last were lost');
  assert.deepEqual(
    shares.takeExcess().map(({ node }) => node),
    [loud],
  );
});
