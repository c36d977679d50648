import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import type { LiveConnections } from '../../../../../agent/dataplane/flow/live-connections.js';
import { explainReset } from '../../../../../agent/dataplane/flow/reset-in-doubt.js';
import type { TrackedConnection } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import type { RelayOutcome } from '../../../../../agent/dataplane/relay/relay-outcome.js';
import type { RuleRef } from '../../../../../shared/policy/connection.js';

const rule: RuleRef = { kind: 'Mesh', name: 'default' };
const broken = { side: 'destination', detail: 'stream reset' } as const;

/** Resets from the tunnel, as the relay tells them. */
const resets: readonly { readonly what: string; readonly outcome: RelayOutcome }[] = [
  {
    what: 'a reset',
    outcome: { reason: 'PEER_RESET', endedBy: 'destination', detail: 'stream reset', rule: null, broken },
  },
  {
    what: 'a reset after the client had ended its half',
    outcome: { reason: 'OK', endedBy: 'source', detail: '', rule: null, broken },
  },
];

describe('a connection that the other agent cut', () => {
  for (const { what, outcome } of resets) {
    test(`is recorded with the cut when the same change arrives here after ${what}`, async () => {
      const { connection, connections } = tracked();
      const explained = explainReset(connections, connection, outcome);
      connection.signal.raise(new ConnectionCut({ reason: 'POLICY_TERMINATED', rule }));
      assert.deepEqual(await explained, { reason: 'POLICY_TERMINATED', rule, detail: 'cut by the other agent' });
    });
  }

  test('is not looked for when both directions ended', async () => {
    const { connection, connections } = tracked();
    const outcome: RelayOutcome = { reason: 'OK', endedBy: 'source', detail: '', rule: null };
    connection.signal.raise(new ConnectionCut({ reason: 'POLICY_TERMINATED' }));
    assert.equal(await explainReset(connections, connection, outcome), outcome);
  });
});

function tracked(): { readonly connection: TrackedConnection; readonly connections: LiveConnections } {
  const connection = {
    record: { direction: 'outbound', path: 'hbone', ended: () => {} },
    signal: new TerminationSignal(),
  } as unknown as TrackedConnection;
  const connections = { release: () => {} } as unknown as LiveConnections;
  return { connection, connections };
}
