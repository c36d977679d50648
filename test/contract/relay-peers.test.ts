import { once } from 'node:events';
import type net from 'node:net';
import { before } from 'node:test';
import { resetSocket } from '../../agent/native/addon.js';
import type { RelayPeer } from '../../agent/dataplane/relay/relay-peer.js';
import { SocketPeer } from '../support/agent/socket-peer.js';
import { StreamPeer } from '../../agent/dataplane/relay/stream-peer.js';
import { acceptedPair, dialledPair } from '../support/agent/application-pair.js';
import { socketPair } from '../support/agent/relay-road.js';
import { TestCa } from '../support/tunnel/tunnel-certificates.js';
import { leanEngine } from '../support/tunnel/tunnel-lean-engine.js';
import { TunnelPair } from '../support/tunnel/tunnel-pair.js';
import { runRelayPeerContract, type PeerPair } from './relay-peer-contract.js';

let ca: TestCa;
before(async () => {
  ca = await TestCa.create();
});

function withSocket(far: net.Socket, peer: RelayPeer): PeerPair {
  return {
    far,
    peer,
    resetFar: () => resetSocket(far),
    async [Symbol.asyncDispose]() {
      peer.reset();
      if (far.closed) return;
      const closed = once(far, 'close');
      far.destroy();
      await closed;
    },
  };
}

runRelayPeerContract({
  name: 'a socket of Node',
  make: async () => {
    const [far, socket] = await socketPair();
    return withSocket(far, new SocketPeer(socket));
  },
});

runRelayPeerContract({ name: 'an accepted socket', make: async () => withSocket(...(await acceptedPair())) });

runRelayPeerContract({ name: 'a dialled socket', make: async () => withSocket(...(await dialledPair())) });

runRelayPeerContract({
  name: 'a stream of a tunnel',
  make: async () => {
    const pair = await TunnelPair.start(leanEngine, ca);
    const { near, far } = await pair.streamPair();
    far.on('error', () => {});
    return {
      peer: new StreamPeer(near),
      far,
      resetFar: () => far.reset(),
      [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose](),
    };
  },
});
