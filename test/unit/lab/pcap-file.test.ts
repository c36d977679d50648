import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readPcap, wireContains } from '../../lab/pcap-file.js';

type SegmentSpec = { readonly sequence: number; readonly text: string; readonly sourcePort?: number };

describe('reading a capture', () => {
  it('finds a pattern that is split over two segments', () => {
    const wire = readPcap(pcap([ipv4({ sequence: 100, text: 'the sec' }), ipv4({ sequence: 107, text: 'ret word' })]));
    assert.ok(wireContains(wire, 'secret'));
    assert.ok(!wireContains(wire, 'secrets'));
    assert.deepEqual(
      wire.streams.map((stream) => stream.bytes.toString()),
      ['the secret word'],
    );
  });

  it('puts segments in the order of their sequence numbers and takes repeated bytes once', () => {
    const segments = [
      { sequence: 104, text: 'efgh' },
      { sequence: 100, text: 'abcd' },
      { sequence: 102, text: 'cdef' },
      { sequence: 108, text: 'ij' },
    ];
    assert.equal(readPcap(pcap(segments.map(ipv4))).streams[0]?.bytes.toString(), 'abcdefghij');
  });

  it('follows sequence numbers that wrap around', () => {
    const wire = readPcap(pcap([ipv4({ sequence: 0xfffffffe, text: 'abcd' }), ipv4({ sequence: 2, text: 'ef' })]));
    assert.equal(wire.streams[0]?.bytes.toString(), 'abcdef');
  });

  it('keeps connections apart', () => {
    const wire = readPcap(
      pcap([ipv4({ sequence: 1, text: 'sec', sourcePort: 1 }), ipv4({ sequence: 4, text: 'ret', sourcePort: 2 })]),
    );
    assert.equal(wire.streams.length, 2);
    assert.ok(!wireContains(wire, 'secret'));
  });

  it('reads IPv6', () => {
    const wire = readPcap(pcap([ipv6({ sequence: 1, text: 'sec' }), ipv6({ sequence: 4, text: 'ret' })]));
    assert.ok(wireContains(wire, 'secret'));
  });

  it('leaves padding behind a short packet out of the stream', () => {
    const padded = Buffer.concat([ipv4({ sequence: 1, text: 'sec' }), Buffer.alloc(6)]);
    assert.ok(wireContains(readPcap(pcap([padded, ipv4({ sequence: 4, text: 'ret' })])), 'secret'));
  });

  it('finds a pattern in a frame that is not TCP', () => {
    assert.ok(wireContains(readPcap(pcap([Buffer.from('some frame with a secret in it')])), 'secret'));
  });

  it('stops at a record that is not written to its end', () => {
    const whole = pcap([ipv4({ sequence: 1, text: 'abc' }), ipv4({ sequence: 4, text: 'def' })]);
    assert.equal(readPcap(whole.subarray(0, whole.length - 1)).frames.length, 1);
    assert.equal(readPcap(Buffer.alloc(0)).frames.length, 0);
  });
});

function pcap(frames: readonly Buffer[]): Buffer {
  const records = frames.flatMap((frame) => {
    const header = Buffer.alloc(16);
    header.writeUInt32LE(frame.length, 8);
    header.writeUInt32LE(frame.length, 12);
    return [header, frame];
  });
  return Buffer.concat([Buffer.alloc(24), ...records]);
}

function ipv4(segment: SegmentSpec): Buffer {
  const tcp = tcpSegment(segment);
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header[9] = 6;
  header.writeUInt16BE(20 + tcp.length, 2);
  return Buffer.concat([ethernet(0x0800), header, tcp]);
}

function ipv6(segment: SegmentSpec): Buffer {
  const tcp = tcpSegment(segment);
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header[6] = 6;
  header.writeUInt16BE(tcp.length, 4);
  return Buffer.concat([ethernet(0x86dd), header, tcp]);
}

function ethernet(etherType: number): Buffer {
  const header = Buffer.alloc(14);
  header.writeUInt16BE(etherType, 12);
  return header;
}

function tcpSegment({ sequence, text, sourcePort = 40_000 }: SegmentSpec): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(sourcePort, 0);
  header.writeUInt16BE(80, 2);
  header.writeUInt32BE(sequence, 4);
  header[12] = 0x50;
  return Buffer.concat([header, Buffer.from(text)]);
}
