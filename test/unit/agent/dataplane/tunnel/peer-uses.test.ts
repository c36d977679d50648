import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PeerUses } from '../../../../../agent/dataplane/tunnel/peer-uses.js';
import type { ProvedPeer } from '../../../../../agent/dataplane/tunnel/server-handshakes.js';
import type { PeerAddress } from '../../../../../agent/dataplane/sockets/socket-addresses.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { clientIdentity, serverIdentity } from '../../../../support/tunnel/tunnel-certificates.js';
import { workloadNamed } from '../../../../support/routing/names.js';

type Peer = Pick<ProvedPeer, 'listener' | 'identity' | 'address'>;

const peerAt = (ip: string, workload = 'shop/back'): Peer => ({
  listener: { workload: workloadNamed(workload), identity: serverIdentity },
  identity: clientIdentity,
  address: { ip: ip as IpAddress, port: 4000 } as PeerAddress,
});

/** How many tunnels a peer gets. */
function tunnelsOf(uses: PeerUses, peer: Peer): number {
  let count = 0;
  while (uses.beginTunnel(peer) !== null) count += 1;
  return count;
}

test('a peer gets the tunnels that its connections need and some more, whatever others have', () => {
  const limits = { maxConnectionsPerPeer: 1000, maxStreamsPerTunnel: 100 };
  const uses = new PeerUses({ limits, workers: 2 });
  const [first, second] = [peerAt('198.18.0.1'), peerAt('198.18.0.2')];
  const use = uses.beginTunnel(first);
  assert.ok(use !== null);
  assert.equal(tunnelsOf(uses, first), 5 + 128 - 1);
  assert.equal(tunnelsOf(uses, second), 5 + 128, 'another address');
  assert.equal(tunnelsOf(uses, peerAt('198.18.0.1', 'shop/other')), 5 + 128, 'to another workload');
  uses.tunnelEnded(use);
  assert.equal(tunnelsOf(uses, first), 1);
});

test('streams that a peer gives up count for nothing as long as as many were answered', () => {
  const uses = new PeerUses({ limits: { maxConnectionsPerPeer: 1000, maxStreamsPerTunnel: 100 }, workers: 1 });
  const [first, second] = [uses.beginTunnel(peerAt('198.18.0.1')), uses.beginTunnel(peerAt('198.18.0.1'))];
  assert.ok(first !== null && second !== null);
  assert.ok(uses.isGivenUpForNothing(first));
  for (let count = 0; count < 3; count++) uses.streamAnswered(second);
  for (let count = 0; count < 3; count++) assert.ok(!uses.isGivenUpForNothing(first), 'in whichever tunnel');
  assert.ok(uses.isGivenUpForNothing(first));
  for (let count = 0; count < 5000; count++) uses.streamAnswered(first);
  let free = 0;
  while (!uses.isGivenUpForNothing(first)) free += 1;
  assert.equal(free, 1000, 'what was answered long ago does not count');
});

test('the threads share the connections of a peer, and one that has left begins again', () => {
  const uses = new PeerUses({ limits: { maxConnectionsPerPeer: 5, maxStreamsPerTunnel: 100 }, workers: 2 });
  const peer = peerAt('fd00::1');
  const use = uses.beginTunnel(peer);
  assert.ok(use !== null);
  use.streams = 3;
  assert.equal(uses.exceeded(use), null);
  use.streams = 4;
  assert.equal(uses.exceeded(use), `limit 3 of a thread for ${clientIdentity} at fd00::1`);
  uses.tunnelEnded(use);
  assert.equal(uses.beginTunnel(peer)?.streams, 0);
});
