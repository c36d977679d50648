import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { test } from 'node:test';
import { Reactor } from '../../../../../agent/dataplane/io/reactor.js';
import { ProbeListener } from '../../../../../agent/dataplane/listen/probe-listener.js';
import { closeFd, listenTcp, socketAddresses } from '../../../../../agent/native/addon.js';

test('the listeners for probes open all or none', async () => {
  const { calls } = Reactor.ofThread();
  const first = listenTcp({ netnsFd: null, host: '127.0.0.1', port: 0, backlog: 1, reusePort: false });
  const { port } = socketAddresses(first).local;
  const onConnection = (): void => assert.fail('accepted by a listener that was not made');
  assert.throws(() => new ProbeListener({ sockets: [first, 1_000_000], backlog: 1, onConnection }), { code: 'EBADF' });
  assert.equal(calls.ioCounts(), 0);
  const client = connect({ port, host: '127.0.0.1' });
  await once(client, 'connect');
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  client.destroy();
  closeFd(first);
});
