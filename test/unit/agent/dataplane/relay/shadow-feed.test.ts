import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { ShadowFeed } from '../../../../../agent/dataplane/relay/shadow-feed.js';
import { ShadowPool } from '../../../../../agent/dataplane/relay/shadow-pool.js';

const turn = async (): Promise<void> => await new Promise((resolve) => void setImmediate(resolve));

/** A feed whose owner writes down what it is told. Lent memory is spoilt after each call, as a reader's is. */
function fed(
  boundBytes: number,
  more: { readonly onBytes?: (feed: ShadowFeed) => void; readonly lingerMs?: number } = {},
) {
  const pool = new ShadowPool({ descriptors: 640, mostWaitingBytes: 2_000_000 });
  const feed = new ShadowFeed({
    share: pool.shareOf('shop/web'),
    boundBytes,
    ...(more.lingerMs === undefined ? {} : { lingerMs: more.lingerMs }),
  });
  const seen = { text: '', ends: 0, gone: 0, givenUp: [] as string[] };
  assert.equal(
    feed.begin((detail) => seen.givenUp.push(detail)),
    null,
  );
  feed.open({
    onBytes: (bytes) => {
      seen.text += String(bytes);
      more.onBytes?.(feed);
    },
    onDrained: () => {},
    onEnd: () => (seen.ends += 1),
    onBroken: () => assert.fail('a feed does not break'),
    onGone: () => (seen.gone += 1),
  });
  const offer = (text: string): void => {
    const lent = Buffer.from(text);
    feed.offer(lent);
    lent.fill(0);
  };
  return { feed, pool, seen, offer };
}

describe('what a client sends, for a shadow', () => {
  it('comes whole and in order, however the shadow pauses, and its end behind it', async () => {
    const steps = fc.array(fc.constantFrom('offer', 'pause', 'resume', 'turn'), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(steps, async (asked) => {
        const { feed, pool, seen, offer } = fed(1_000_000);
        let sent = '';
        for (const step of asked) {
          if (step === 'offer') {
            const text = `${sent.length},`;
            sent += text;
            offer(text);
          } else if (step === 'turn') await turn();
          else feed[step]();
          assert.ok(sent.startsWith(seen.text));
          assert.equal(feed.unreadBytes, sent.length - seen.text.length);
          assert.equal(pool.waitingBytes, feed.unreadBytes);
        }
        feed.offerEnd();
        feed.resume();
        await turn();
        assert.deepEqual([seen.text, seen.ends, seen.givenUp, seen.gone], [sent, 1, [], 0]);
        feed.end();
        await turn();
        assert.deepEqual([seen.gone, feed.isGone, pool.waitingBytes], [1, true, 0]);
      }),
    );
  });

  it('is handed over in few pieces, however small those are that waited', async () => {
    let pieces = 0;
    const { feed, seen, offer } = fed(262_144, { onBytes: () => (pieces += 1) });
    for (let at = 0; at < 20_000; at++) offer(String(at % 10));
    feed.resume();
    await turn();
    assert.deepEqual([seen.text, feed.unreadBytes], ['0123456789'.repeat(2000), 0]);
    assert.ok(pieces <= 5, `${pieces} pieces`);
  });

  it('is given up when more waits than may, and never before', () => {
    const { feed, pool, seen, offer } = fed(100);
    offer('x'.repeat(60));
    offer('x'.repeat(40));
    assert.deepEqual([feed.unreadBytes, seen.givenUp], [100, []]);
    offer('x');
    assert.deepEqual(seen.givenUp, ['100 bytes wait for the shadow, and 1 more came']);
    assert.deepEqual([feed.unreadBytes, pool.waitingBytes], [0, 0]);
    offer('y');
    feed.offerEnd();
    feed.copiedEnded('CLIENT_RESET');
    assert.deepEqual([seen.text, seen.ends, seen.givenUp.length], ['', 0, 1]);
  });

  it('is given up when more waits for shadows of its client than is left for others', () => {
    const { pool, seen, offer } = fed(2_000_000);
    offer('x'.repeat(1_000_000));
    const other = pool.shareOf('shop/other');
    assert.deepEqual([other.take(500_000), other.take(1), seen.givenUp], [true, false, []]);
    offer('6');
    assert.deepEqual(seen.givenUp, [
      '1000000 bytes wait for shadows of the client on this thread, and 1500000 for all',
    ]);
    assert.equal(pool.waitingBytes, 500_000);
  });

  it('counts what waits on the way to a shadow that does not read, until it has left', async () => {
    const far = { waitingBytes: 70_000 };
    const { feed, pool, seen, offer } = fed(100, { onBytes: (each) => each.pause() });
    feed.opened(far);
    feed.resume();
    await turn();
    offer('a');
    offer('b');
    assert.deepEqual([seen.text, pool.waitingBytes], ['a', 70_001]);
    feed.pause();
    assert.equal(pool.waitingBytes, 70_001);
    far.waitingBytes = 0;
    feed.resume();
    assert.equal(pool.waitingBytes, 1);
    await turn();
    assert.deepEqual([seen.text, pool.waitingBytes], ['ab', 0]);
    far.waitingBytes = 70_000;
    feed.resume();
    await turn();
    offer('c');
    feed.reset();
    assert.deepEqual([seen.text, pool.waitingBytes], ['abc', 0]);
  });

  it('is given up when more is on the way to it than its client may have waiting', async () => {
    const { feed, pool, seen, offer } = fed(100, { onBytes: (each) => each.pause() });
    feed.opened({ waitingBytes: 1_000_001 });
    feed.resume();
    await turn();
    offer('a');
    assert.deepEqual(seen.givenUp, ['0 bytes wait for shadows of the client on this thread, and 0 for all']);
    assert.deepEqual([seen.text, pool.waitingBytes], ['a', 0]);
  });

  it('has nothing waiting while the shadow takes it at once', async () => {
    const { feed, seen, offer } = fed(10);
    feed.resume();
    await turn();
    for (let at = 0; at < 50; at++) offer('12345678901');
    assert.deepEqual([seen.text.length, feed.unreadBytes, seen.givenUp], [550, 0, []]);
  });

  it('stays in order when the shadow pauses within what it is told', async () => {
    const { feed, seen, offer } = fed(100, { onBytes: (each) => each.pause() });
    offer('a');
    offer('b');
    feed.resume();
    await turn();
    offer('c');
    for (let at = 0; at < 3; at++) {
      feed.resume();
      await turn();
    }
    assert.deepEqual([seen.text, feed.unreadBytes], ['abc', 0]);
  });

  it('is given up with a connection that does not end in order', () => {
    const { feed, seen } = fed(100);
    feed.copiedEnded('CLIENT_RESET');
    assert.deepEqual(seen.givenUp, ['the connection that it copies ended with CLIENT_RESET']);
  });

  it('outlives a connection that ended in order only for a while', async () => {
    const { feed, seen, offer } = fed(100, { lingerMs: 20 });
    offer('a');
    feed.copiedEnded(null);
    assert.deepEqual(seen.givenUp, []);
    await new Promise((resolve) => void setTimeout(resolve, 40));
    assert.deepEqual(seen.givenUp, ['not over 20 ms after the connection that it copies']);
  });

  it('is gone once after a reset, in a turn of its own, and gives its place back once', async () => {
    const { feed, pool, seen, offer } = fed(10);
    // 10 of 640 descriptors, of which it has one and its client five.
    const share = pool.shareOf('shop/web');
    for (let at = 0; at < 4; at++) assert.ok(share.enter());
    assert.ok(!share.enter());
    feed.reset();
    feed.reset();
    feed.refuse();
    assert.ok(share.enter() && !share.enter());
    assert.deepEqual([seen.gone, feed.isGone], [0, true]);
    offer('x');
    await turn();
    assert.deepEqual([seen.gone, seen.text, feed.unreadBytes], [1, '', 0]);
  });

  it('holds nothing of a shadow that is gone, while the connection that it copies is open', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const feed = new ShadowFeed({ share: new ShadowPool({ descriptors: 640 }).shareOf('shop/web') });
    const opened = (() => {
      const told: string[] = [];
      const tell = (): void => void told.push('');
      feed.begin(tell);
      feed.open({ onBytes: tell, onDrained: tell, onEnd: tell, onBroken: tell, onGone: tell });
      return new WeakRef(told);
    })();
    feed.reset();
    for (let times = 0; times < 5; times++) {
      await turn();
      collect();
    }
    assert.equal(opened.deref(), undefined);
    assert.ok(feed.isGone);
  });

  it('does not begin where all places are taken, and what waits is dropped when it is refused', () => {
    const pool = new ShadowPool({ descriptors: 63 });
    const feed = new ShadowFeed({ share: pool.shareOf('shop/web') });
    feed.offer(Buffer.from('abc'));
    assert.equal(pool.waitingBytes, 3);
    assert.equal(
      feed.begin(() => {}),
      '0 shadows of the client are open on this thread, and 0 in all, as many as may be',
    );
    feed.refuse();
    assert.deepEqual([pool.waitingBytes, feed.isGone], [0, true]);
  });

  it('does not begin when it was given up before', () => {
    const feed = new ShadowFeed({ share: new ShadowPool({ descriptors: 640 }).shareOf('shop/web'), boundBytes: 1 });
    feed.offer(Buffer.from('abc'));
    assert.equal(
      feed.begin(() => {}),
      '0 bytes wait for the shadow, and 3 more came',
    );
  });
});

describe('what the shadows of a thread may use', () => {
  it('leaves something for the next client, however many one has', () => {
    const pool = new ShadowPool({ descriptors: 640 });
    const placesOf = (client: string): number => {
      const share = pool.shareOf(client);
      let places = 0;
      while (share.enter()) places += 1;
      return places;
    };
    assert.deepEqual([placesOf('a'), placesOf('b'), placesOf('c'), placesOf('d')], [5, 3, 1, 1]);
    assert.equal(pool.open, 10);
  });

  it('forgets a client whose last shadow is gone', () => {
    const pool = new ShadowPool({ descriptors: 640 });
    const [first, same] = [pool.shareOf('a'), pool.shareOf('a')];
    assert.equal(first, same);
    first.release();
    assert.equal(pool.shareOf('a'), first);
    first.release();
    first.release();
    assert.notEqual(pool.shareOf('a'), first);
  });
});
