import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { closeSync } from 'node:fs';
import process from 'node:process';
import { after, before, describe, test } from 'node:test';
import { openNetns } from '../../../../../agent/native/netns.js';
import { SocketTable } from '../../../../../agent/native/socket-table.js';
import { explainLostEntry, learnApplication } from '../../../../../agent/dataplane/flow/captured-connection.js';
import type { TrackedConnection } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import { SocketPeer } from '../../../../support/agent/socket-peer.js';
import type { RelayOutcome } from '../../../../../agent/dataplane/relay/relay-outcome.js';
import { errorOf } from '../../../../support/agent/dataplane-applications.js';
import { localEnd, remoteEnd } from '../../../../support/agent/entry-lifetime.js';
import { readSome } from '../../../../support/mesh/two-hosts.js';

const broken = { side: 'source', detail: 'ECONNRESET' } as const;
const reset: RelayOutcome = { reason: 'CLIENT_RESET', endedBy: 'source', detail: 'ECONNRESET', rule: null, broken };
const resets: readonly RelayOutcome[] = [
  reset,
  { reason: 'OK', endedBy: 'destination', detail: 'after both had finished', rule: null, broken },
];

/** A client, and its connection as the agent has it that accepted `accepted`. */
type Captured = {
  readonly client: net.Socket;
  readonly accepted: SocketPeer;
  readonly connection: TrackedConnection;
};

/** Other tests listen on, and connect from, 127.0.0.1. */
const clientIp = '127.66.0.1';
let ports = 0;
/** Below those that the kernel gives to others, who could have one before the client connects from it again. */
const nextPort = (): number => 20_000 + ((process.pid * 8 + ports++) % 12_000);

describe('a reset from the side of the client', () => {
  let server: net.Server;
  let sockets: SocketTable;
  const open: net.Socket[] = [];

  before(async () => {
    const { fd } = openNetns('/proc/self/ns/net');
    sockets = SocketTable.open(fd);
    closeSync(fd);
    // Paused, so that a reset is the kernel's knowledge alone, as it is between two turns of the agent's event loop.
    server = net.createServer({ pauseOnConnect: true }, (socket) => {
      open.push(socket);
      socket.on('error', () => socket.destroy());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  after(() => {
    sockets.close();
    for (const socket of open) socket.destroy();
    server.close();
  });

  for (const outcome of resets) {
    test(`is the loss of its entry while the client has its socket, also where the relay calls the end ${outcome.reason}`, async () => {
      const { client, accepted, connection } = await captured();
      learnApplication(connection, accepted);
      const error = errorOf(client);
      assert.equal(explainLostEntry(connection, outcome)?.reason, 'CAPTURE_LOST');
      assert.equal(await error, 'ECONNABORTED');
    });

    test(`is its own when its socket has gone and the relay calls the end ${outcome.reason}`, async () => {
      const { client, accepted, connection } = await captured();
      learnApplication(connection, accepted);
      await resetOf(client);
      assert.equal(explainLostEntry(connection, outcome), null);
    });
  }

  test('leaves a new connection of the client from the same port alone', async () => {
    const first = await captured();
    learnApplication(first.connection, first.accepted);
    const second = await again(first);
    assert.equal(explainLostEntry(first.connection, reset), null);
    await answers(second);
  });

  test('leaves a connection alone whose socket was never known', async () => {
    const only = await captured();
    assert.equal(explainLostEntry(only.connection, reset), null);
    await answers(only);
  });

  test('leaves a new connection from the same port alone, also when the agent looks only after it was opened', async () => {
    const first = await captured();
    const second = await again(first);
    learnApplication(first.connection, first.accepted);
    assert.equal(explainLostEntry(first.connection, reset), null);
    await answers(second);
  });

  async function captured(from: { localPort?: number } = {}): Promise<Captured> {
    const accepting = once(server, 'connection') as Promise<[net.Socket]>;
    const { port } = server.address() as net.AddressInfo;
    const client = net.connect({ host: '127.0.0.1', port, localAddress: clientIp, localPort: nextPort(), ...from });
    open.push(client);
    await once(client, 'connect');
    const [accepted] = await accepting;
    const record = { direction: 'outbound', requested: remoteEnd(client), source: { address: localEnd(client) } };
    const connection = { record, workloads: [{ isOpen: true, sockets }], application: null };
    return { client, accepted: new SocketPeer(accepted), connection: connection as unknown as TrackedConnection };
  }

  /** Its client resets, and connects again from the same port. The agent's socket has seen the reset, as it does at once. */
  async function again({ client }: Captured): Promise<Captured> {
    const { localPort } = client;
    await resetOf(client);
    return await captured(localPort === undefined ? {} : { localPort });
  }

  async function resetOf(client: net.Socket): Promise<void> {
    client.resetAndDestroy();
    await once(client, 'close');
  }

  async function answers({ client, accepted }: Captured): Promise<void> {
    accepted.send(Buffer.from('here'));
    assert.equal(String(await readSome(client)), 'here');
  }
});
