import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { WriteBlock } from '../../agent/dataplane/relay/write-block.js';

describe('a block of bytes to be written', () => {
  it('keeps what was added, whatever becomes of the original', () => {
    const block = WriteBlock.take({});
    const lent = Buffer.from('one');
    const [first, second] = [block.add(lent), block.add(Buffer.from('two'))];
    lent.fill(0);
    assert.deepEqual([first.toString(), second.toString()], ['one', 'two']);
  });

  it('takes no more than there is room for', () => {
    const owner = {};
    const block = WriteBlock.take(owner);
    assert.equal(block.add(Buffer.alloc(60_000)).length, 60_000);
    assert.equal(block.hasRoomFor(owner), true);
    assert.equal(block.add(Buffer.alloc(60_000)).length, 65_536 - 60_000);
    assert.equal(block.hasRoomFor(owner), false);
  });

  it('is used again when all of it was written, not before', () => {
    const owner = {};
    const block = WriteBlock.take(owner);
    block.add(Buffer.from('one'));
    block.add(Buffer.from('two'));
    block.onWritten();
    assert.equal(block.hasRoomFor(owner), true);
    assert.notEqual(WriteBlock.take(owner), block);
    block.onWritten();
    assert.equal(block.hasRoomFor(owner), false);
    const next = {};
    assert.equal(WriteBlock.take(next), block);
    assert.deepEqual([block.hasRoomFor(next), block.hasRoomFor(owner)], [true, false]);
    assert.equal(block.add(Buffer.alloc(100_000)).length, 65_536);
  });
});
