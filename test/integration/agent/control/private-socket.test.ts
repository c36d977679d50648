import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { listenPrivately } from '../../../../agent/control/state/private-socket.js';

test('a socket is there although the one before closes in that moment, in a process of the same id', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-socket-'));
  const socket = path.join(directory, 'agent.sock');
  const [before, after] = [net.createServer(), net.createServer((connection) => connection.end('here'))];
  const onError = (error: Error): void => assert.fail(error);
  try {
    await listenPrivately(before, { path: socket, isClosed: () => false, onError });
    let closed: Promise<unknown> = Promise.resolve();
    const isClosed = (): boolean => {
      if (after.listening) {
        closed = once(before, 'close');
        before.close();
      }
      return false;
    };
    await listenPrivately(after, { path: socket, isClosed, onError });
    await closed;
    const client = net.connect(socket);
    assert.equal(String((await once(client, 'data'))[0]), 'here');
    assert.deepEqual(await readdir(directory), ['agent.sock']);
  } finally {
    after.close();
    await rm(directory, { recursive: true });
  }
});
