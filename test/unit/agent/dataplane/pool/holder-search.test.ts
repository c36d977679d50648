import assert from 'node:assert/strict';
import { closeSync, openSync, readlinkSync } from 'node:fs';
import net from 'node:net';
import { test } from 'node:test';
import { findHolder, type FoundHolder, HolderSearches } from '../../../../../agent/dataplane/pool/holder-search.js';
import { acceptedFd } from '../../../../../agent/native/addon.js';
import { ownNetnsInode } from '../../../../../agent/native/netns.js';
import { waitUntil } from '../../../../lab/wait-until.js';

const everything = { steps: 10_000_000, descriptorsOfOne: 10_000_000 };

function run(search: Generator<undefined, FoundHolder>): { readonly found: FoundHolder; readonly steps: number } {
  for (let steps = 0; ; steps++) {
    const { done, value } = search.next();
    if (done === true) return { found: value, steps };
  }
}

test('the process that has a socket is found, and a search ends at its limits and says so', async () => {
  const before = Array.from({ length: 300 }, () => openSync('/dev/null', 'r'));
  const server = net.createServer().listen({ host: '127.0.0.1', port: 0 });
  await new Promise((resolve) => server.once('listening', resolve));
  const [, socketInode = ''] = /\[(\d+)\]/.exec(readlinkSync(`/proc/self/fd/${acceptedFd(server)}`)) ?? [];
  const socket = { netnsInode: ownNetnsInode(), socketInode };
  const { found } = run(findHolder(socket, everything));
  assert.match(found.process ?? '', new RegExp(String.raw`^pid ${process.pid} \(.+\)$`));
  assert.equal(found.isCut, false);

  const none = { process: null, isCut: true };
  assert.deepEqual(run(findHolder(socket, { ...everything, descriptorsOfOne: 200 })).found, none);
  const short = run(findHolder(socket, { ...everything, steps: 5 }));
  assert.deepEqual(short, { found: none, steps: 5 });
  const elsewhere = { ...socket, netnsInode: 1 };
  assert.deepEqual(run(findHolder(elsewhere, everything)).found, { process: null, isCut: false });
  server.close();
  before.forEach(closeSync);
});

test('searches run apart, one after another, and for each socket once a minute', async () => {
  let nowMs = 0;
  let steps = 0;
  let running = 0;
  let searches = 0;
  const found: FoundHolder = { process: 'pid 7 (x)', isCut: false };
  const asker = new HolderSearches({
    nowMs: () => nowMs,
    *search() {
      searches++;
      assert.equal(++running, 1);
      for (let i = 0; i < 200; i++) {
        steps++;
        yield;
      }
      running--;
      return found;
    },
  });
  const sockets = ['4', '5', '6'].map((socketInode) => ({ netnsInode: 1, socketInode }));
  const ask = (): readonly (FoundHolder | undefined)[] => sockets.map((socket) => asker.holderOf(socket));
  assert.deepEqual(ask(), [undefined, undefined, undefined]);
  assert.equal(steps, 0, 'the caller does not wait');
  await waitUntil('all answers', () => (ask().every((answer) => answer === found) ? true : undefined));
  nowMs = 59_000;
  ask();
  assert.equal(searches, 3);
  nowMs = 61_000;
  assert.deepEqual(ask(), [found, found, found], 'what was known until then');
  await waitUntil('a second search of each', () => (searches === 6 && running === 0 ? true : undefined));
  ask();
  assert.equal(searches, 6);
});
