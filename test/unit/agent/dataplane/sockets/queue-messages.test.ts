import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseQueuedPacket, verdictOn } from '../../../../../agent/dataplane/sockets/queue-messages.js';

function attribute(type: number, value: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16LE(4 + value.length, 0);
  header.writeUInt16LE(type, 2);
  return Buffer.concat([header, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
}

function message(type: number, ...attributes: readonly Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from('02003a9a', 'hex'), ...attributes]);
  const header = Buffer.alloc(16);
  header.writeUInt32LE(16 + body.length, 0);
  header.writeUInt16LE(type, 4);
  return Buffer.concat([header, body]);
}

const packetType = 0x0300;
const packetHeader = (id: number): Buffer => {
  const value = Buffer.alloc(7);
  value.writeUInt32BE(id, 0);
  return attribute(1, value);
};
const tcp = (flags: number): Buffer => {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(40_000, 0);
  header.writeUInt16BE(5432, 2);
  header[13] = flags;
  return header;
};
const ipv4 = (flags: number, protocol = 6): Buffer =>
  Buffer.concat([
    Buffer.from([0x46, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]),
    Buffer.alloc(4),
    tcp(flags),
  ]);
const ipv6 = (flags: number, next = 6): Buffer => {
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header[6] = next;
  Buffer.from('fd000000000000000000000000000001', 'hex').copy(header, 8);
  Buffer.from('fd000000000000000000000000000002', 'hex').copy(header, 24);
  return Buffer.concat([header, tcp(flags)]);
};
const syn = 0x02;

test('a SYN is read with its addresses, over IPv4 with options and over IPv6', () => {
  const mark = attribute(3, Buffer.from('12345000', 'hex'));
  assert.deepEqual(parseQueuedPacket(message(packetType, packetHeader(7), mark, attribute(10, ipv4(syn)))), {
    id: 7,
    mark: 0x12345000,
    syn: { client: { ip: '198.18.0.1', port: 40_000 }, dialled: { ip: '198.18.0.2', port: 5432 } },
  });
  assert.deepEqual(parseQueuedPacket(message(packetType, packetHeader(8), attribute(10, ipv6(syn)))), {
    id: 8,
    mark: 0,
    syn: { client: { ip: 'fd00::1', port: 40_000 }, dialled: { ip: 'fd00::2', port: 5432 } },
  });
});

const others: readonly [string, Buffer][] = [
  ['another segment of TCP', ipv4(0x12)],
  ['another protocol', ipv4(syn, 17)],
  ['an extension header of IPv6', ipv6(syn, 0)],
  ['a packet that was cut off', ipv4(syn).subarray(0, 30)],
  ['nothing', Buffer.alloc(0)],
];
for (const [what, payload] of others) {
  test(`${what} is a packet that waits, and no SYN`, () => {
    const parsed = parseQueuedPacket(message(packetType, packetHeader(9), attribute(10, payload)));
    assert.deepEqual(parsed, { id: 9, mark: 0, syn: null });
  });
}

test('an answer of the kernel is no packet, and no message makes the parser throw or hang', () => {
  assert.equal(parseQueuedPacket(message(2, packetHeader(1))), null);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const noise = Buffer.from(bytes);
      parseQueuedPacket(noise);
      if (noise.length < 20) return;
      noise.writeUInt16LE(packetType, 4);
      noise.writeUInt32LE(noise.length, 0);
      parseQueuedPacket(noise);
    }),
  );
});

test('a verdict keeps the bits of the mark that belong to others', () => {
  const packet = { id: 0x01020304, mark: 0xabcde123 };
  assert.equal(
    verdictOn(packet, 15_002, { kind: 'pass', mark: 0x53a }).toString('hex'),
    hexOf('28000000010301000000000000000000', '00003a9a', '0c0002000000000101020304', '08000300abcde53a'),
  );
  assert.equal(
    verdictOn(packet, 15_002, { kind: 'drop' }).toString('hex'),
    hexOf('20000000010301000000000000000000', '00003a9a', '0c0002000000000001020304'),
  );
  assert.equal(verdictOn(packet, 15_002, { kind: 'pass' }).length, 32, 'and the mark as it is, without one');
});

function hexOf(...parts: readonly string[]): string {
  return parts.join('');
}
