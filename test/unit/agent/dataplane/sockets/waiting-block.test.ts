import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { WaitingBlock } from '../../../../../agent/dataplane/sockets/waiting-block.js';

describe('a block of bytes that wait', () => {
  it('keeps what was added, whatever becomes of the original, and gives it in pieces', () => {
    const block = WaitingBlock.for({});
    const lent = Buffer.from('one');
    block.add(lent);
    block.add(Buffer.from('two'));
    const first = block.take();
    block.add(Buffer.from('three'));
    lent.fill(0);
    assert.deepEqual([first, block.take()].map(String), ['onetwo', 'three']);
  });

  it('takes no more than there is room for', () => {
    const owner = {};
    const block = WaitingBlock.for(owner);
    assert.equal(block.add(Buffer.alloc(60_000)), 60_000);
    assert.deepEqual([block.hasRoomFor(owner), block.isFull], [true, false]);
    assert.equal(block.add(Buffer.alloc(60_000)), 65_536 - 60_000);
    assert.deepEqual([block.hasRoomFor(owner), block.isFull], [false, true]);
    assert.equal(block.take().length, 65_536);
  });

  it('is first of the memory that was given, and that counts for none of the idle ones of the heap', () => {
    const given = Buffer.alloc(4 * WaitingBlock.bytes);
    WaitingBlock.keepIn(given);
    const lend = (count: number): WaitingBlock[] => Array.from({ length: count }, () => WaitingBlock.for({}));
    const release = (blocks: readonly WaitingBlock[]): void => {
      for (const block of blocks) {
        block.add(Buffer.from('x'));
        block.take();
        block.onTaken();
      }
    };
    const lent = lend(200);
    for (const [at, block] of lent.slice(0, 4).entries()) {
      block.add(Buffer.from('x'));
      const piece = block.take();
      assert.deepEqual([piece.buffer, piece.byteOffset], [given.buffer, given.byteOffset + at * WaitingBlock.bytes]);
    }
    // Whichever come back first.
    for (const block of lent.slice(0, 4)) block.onTaken();
    release(lent.slice(4));
    const again = lend(200);
    assert.ok(again.slice(0, 4).every((block) => lent.indexOf(block) < 4 && lent.includes(block)));
    assert.equal(again.filter((block) => lent.includes(block)).length, 4 + 128);
    release(again);
  });

  it('is used again when every piece of it was taken, not before', () => {
    const owner = {};
    const block = WaitingBlock.for(owner);
    block.add(Buffer.from('one'));
    block.take();
    block.add(Buffer.from('two'));
    block.onTaken();
    assert.deepEqual([block.hasRoomFor(owner), block.pieceBytes(owner)], [true, 3], 'a piece is being filled');
    assert.notEqual(WaitingBlock.for(owner), block);
    assert.equal(String(block.take()), 'two');
    block.onTaken();
    assert.equal(block.hasRoomFor(owner), false);
    const next = {};
    assert.equal(WaitingBlock.for(next), block);
    assert.deepEqual([block.hasRoomFor(next), block.hasRoomFor(owner)], [true, false]);
    assert.equal(block.add(Buffer.alloc(100_000)), 65_536);
    assert.deepEqual([block.pieceBytes(next), block.pieceBytes(owner)], [65_536, 0], 'what another fills is not mine');
  });
});
