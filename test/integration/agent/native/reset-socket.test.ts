import assert from 'node:assert/strict';
import { once } from 'node:events';
import type net from 'node:net';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { acceptedFd, resetSocket } from '../../../../agent/native/addon.js';
import { errorBehindEnd, tcpCondition } from '../../../../agent/native/tcp-life.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { errorCodeOf } from '../../../../agent/dataplane/connection/failure-reasons.js';
import { socketPair } from '../../../support/agent/relay-road.js';
import { withDeadline } from '../../../support/tunnel/tunnel-pair.js';

/** What a socket does right before it is reset. Node's own reset loses those that have an `end()` under way. */
const before: readonly { readonly what: string; readonly act: (own: net.Socket) => void }[] = [
  { what: 'is idle', act: () => {} },
  { what: 'has just ended its side', act: (own) => own.end() },
  { what: 'ended its side behind bytes that the peer does not read', act: (own) => own.end(Buffer.alloc(30_000_000)) },
  {
    what: 'is corked and ended',
    act: (own) => {
      own.cork();
      own.end('text');
    },
  },
  { what: 'has bytes that the peer does not read', act: (own) => own.write(Buffer.alloc(30_000_000)) },
];

for (const { what, act } of before) {
  test(`a socket that ${what} is closed by a reset, and its peer sees the reset`, async () => {
    const [peer, own] = await socketPair();
    act(own);
    const closed = new Promise((resolve) => own.once('close', resolve));
    resetSocket(own);
    await withDeadline('the close of the own socket', closed);
    assert.equal(await endSeenBy(peer), 'ECONNRESET');
  });
}

/** The error that a socket ends with, also when the bytes before it hide it; null for a FIN. */
async function endSeenBy(peer: net.Socket): Promise<string | null> {
  const end = new Promise<string | null>((resolve) => {
    peer.once('end', () => resolve(errorBehindEnd(peer)));
    peer.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
  peer.resume();
  const error = await withDeadline('the end of the peer', end);
  peer.destroy();
  return error;
}

test('the error that a reset behind the last bytes leaves is seen once, and a FIN leaves none', async () => {
  for (const [end, expected] of [
    [resetSocket, 'ECONNRESET'],
    [(own: net.Socket): unknown => own.end(), null],
  ] as const) {
    const [peer, own] = await socketPair();
    own.write('last');
    end(own);
    await waitUntil('the end has arrived', () => (hasEnd(peer) ? true : undefined));
    // From libuv 1.5x on (Node 26) Node reports this reset itself, and leaves nothing behind.
    const reported = peer.errored === null ? null : errorCodeOf(peer.errored);
    assert.equal(reported ?? errorBehindEnd(peer), expected);
    assert.equal(errorBehindEnd(peer), null);
    for (const each of [peer, own]) each.destroy();
  }
});

function hasEnd(peer: net.Socket): boolean {
  if (peer.destroyed) return true;
  const { isOpen, isHalfClosed } = tcpCondition(acceptedFd(peer));
  return !isOpen || isHalfClosed;
}

test('a socket that is destroyed already is left alone', async () => {
  const [peer, own] = await socketPair();
  own.destroy();
  resetSocket(own);
  await once(own, 'close');
  resetSocket(own);
  peer.destroy();
  await once(peer, 'close');
});

test('a thread that has reset sockets whose end was under way ends when it is told to', async () => {
  const addon = new URL('../../../../agent/native/addon.js', import.meta.url).href;
  const text = `
    const net = require('node:net');
    const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(addon)}).then(({ resetSocket }) => {
      const listening = net.createServer((socket) => {
        socket.on('error', () => {}).end();
        resetSocket(socket);
        parentPort.postMessage('reset');
      });
      listening.listen(0, '127.0.0.1', () => net.connect(listening.address().port, '127.0.0.1').on('error', () => {}));
    });`;
  const worker = new Worker(text, { eval: true });
  await once(worker, 'message');
  await withDeadline('the end of the thread', worker.terminate());
});
