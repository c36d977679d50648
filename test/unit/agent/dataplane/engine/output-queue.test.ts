import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { OutputQueue } from '../../../../../agent/dataplane/engine/lean/output-queue.js';
import { writeArenas } from '../../../../../agent/dataplane/engine/lean/write-arenas.js';

function numbered(length: number, from = 0): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, at) => (from + at) % 251));
}

describe('the output of a connection', () => {
  it('is one piece, whatever was small and what was large', () => {
    const output = new OutputQueue();
    const parts = [numbered(3), numbered(200_000, 7), numbered(10), numbered(300_000, 3)];
    for (const part of parts) output.payload(part);
    assert.equal(output.bytes, 500_013);
    const pieces = output.take();
    assert.equal(pieces.length, 1);
    assert.ok(pieces[0]!.equals(Buffer.concat(parts)));
    assert.deepEqual([output.bytes, output.take()], [0, []]);
  });

  it('keeps order and every byte when one piece cannot hold it', () => {
    const output = new OutputQueue();
    const parts = [numbered(600_000), numbered(100_000, 9), numbered(1_500_000, 5), numbered(1)];
    for (const part of parts) {
      output.header(part.length, 0, 0, 1);
      output.payload(part);
    }
    const bytes = Buffer.concat(output.take());
    let at = 0;
    for (const part of parts) {
      assert.equal(bytes.readUIntBE(at, 3), part.length);
      assert.ok(bytes.subarray(at + 9, at + 9 + part.length).equals(part));
      at += 9 + part.length;
    }
    assert.equal(at, bytes.length);
  });

  it('writes into memory again that was given back, and into no other', () => {
    const output = new OutputQueue();
    output.payload(numbered(40_000));
    const [sent] = output.take();
    output.payload(numbered(40_000, 100));
    const [next] = output.take();
    assert.ok(sent!.equals(numbered(40_000)), 'it is still being sent');
    writeArenas.release(sent!);
    output.payload(Buffer.alloc(40_000, 1));
    assert.equal(output.take()[0]!.buffer, sent!.buffer);
    assert.ok(next!.equals(numbered(40_000, 100)));
  });
});
