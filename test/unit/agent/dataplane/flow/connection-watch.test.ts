import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionRecord } from '../../../../../agent/dataplane/connection/connection-record.js';
import { ConnectionWatch } from '../../../../../agent/dataplane/flow/connection-watch.js';
import type { LiveConnections } from '../../../../../agent/dataplane/flow/live-connections.js';
import { TrackedConnection, type Care } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import type { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { waitUntil } from '../../../../lab/wait-until.js';

const roundsBetweenLooks = 4;

function connection(): TrackedConnection {
  return new TrackedConnection({
    record: new ConnectionRecord({ direction: 'outbound' }),
    workload: {} as HostedWorkload,
    clock: { nowMs: Date.now },
    inGrace: { draining: 0, kept: 0 },
  });
}

test('a connection is looked at in its first round, although its bytes move, and then once it is silent', () => {
  const tracked = connection();
  const rounds = [100, 200, 300, 300, 300, 300, 300, 300].map((bytes) => {
    tracked.record.bytesSent = bytes;
    return tracked.isDueForLook(roundsBetweenLooks);
  });
  assert.deepEqual(rounds, [true, false, false, true, false, false, false, true]);
});

test('a connection whose application probes every few seconds is updated several times a round', async () => {
  const tracked = connection();
  let rounds = 0;
  let updates = 0;
  const care: Care = {
    isFarSideGone: false,
    isHurried: true,
    update: () => (updates += 1),
    probeAgain: () => assert.fail('no timeout has changed'),
    look: () => {},
  };
  tracked.care = care;
  tracked.ends = {} as NonNullable<TrackedConnection['ends']>;
  const refreshProbing = (): boolean[] => {
    rounds += 1;
    return [false];
  };
  const watch = new ConnectionWatch({
    connections: new Set([tracked]) as unknown as LiveConnections,
    refreshProbing,
  });
  try {
    await waitUntil('four updates', () => (updates >= 4 ? true : undefined));
    assert.ok(rounds <= 2, `${rounds} rounds`);
  } finally {
    watch.stop();
  }
});
