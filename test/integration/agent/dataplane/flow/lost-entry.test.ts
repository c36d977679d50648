import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { closeSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { openNetns } from '../../../../../agent/native/netns.js';
import { explainLostEntry } from '../../../../../agent/dataplane/flow/captured-connection.js';
import type { TrackedConnection } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import type { RelayOutcome } from '../../../../../agent/dataplane/relay/relay-outcome.js';
import { errorOf } from '../../../../support/agent/dataplane-applications.js';
import { localEnd, remoteEnd } from '../../../../support/agent/entry-lifetime.js';

const broken = { side: 'source', detail: 'ECONNRESET' } as const;
const resets: readonly RelayOutcome[] = [
  { reason: 'CLIENT_RESET', endedBy: 'source', detail: 'ECONNRESET', rule: null, broken },
  { reason: 'OK', endedBy: 'destination', detail: 'after both had finished', rule: null, broken },
];

describe('a reset from the side of the client', () => {
  let server: net.Server;
  let netnsFd: number;

  before(async () => {
    netnsFd = openNetns('/proc/self/ns/net').fd;
    server = net.createServer({ allowHalfOpen: true }, (socket) => socket.on('error', () => socket.destroy()));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  after(() => {
    closeSync(netnsFd);
    server.close();
  });

  for (const outcome of resets) {
    test(`is the loss of its entry while the client has its socket, also where the relay calls the end ${outcome.reason}`, async () => {
      const client = await connect();
      const error = errorOf(client);
      assert.equal(explainLostEntry(capturedFrom(client), outcome)?.reason, 'CAPTURE_LOST');
      assert.equal(await error, 'ECONNABORTED');
    });

    test(`is its own when its socket has gone and the relay calls the end ${outcome.reason}`, async () => {
      const client = await connect();
      const connection = capturedFrom(client);
      client.resetAndDestroy();
      await once(client, 'close');
      assert.equal(explainLostEntry(connection, outcome), null);
    });
  }

  async function connect(): Promise<net.Socket> {
    const { port } = server.address() as net.AddressInfo;
    const client = net.connect({ host: '127.0.0.1', port });
    await once(client, 'connect');
    return client;
  }

  function capturedFrom(client: net.Socket): TrackedConnection {
    const record = { direction: 'outbound', requested: remoteEnd(client), source: { address: localEnd(client) } };
    return { record, workloads: [{ isOpen: true, netnsFd }] } as unknown as TrackedConnection;
  }
});
