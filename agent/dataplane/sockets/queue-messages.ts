import { ipOfBytes } from '../../../shared/address.js';
import { markMask } from '../../ports.js';
import type { OriginalDestination, PeerAddress } from './socket-addresses.js';

/**
 * Messages of nfnetlink_queue (kernel: include/uapi/linux/netfilter/nfnetlink_queue.h and linux/netlink.h). Lengths and
 * types of netlink are in the order of this machine, values of attributes in that of the network.
 */

/** A packet that waits in the queue. */
export type QueuedPacket = {
  readonly id: number;
  readonly mark: number;
  /** Null: no SYN of TCP that could be read. */
  readonly syn: { readonly client: PeerAddress; readonly dialled: OriginalDestination } | null;
};

/** `drop`: as if it was lost. Otherwise the packet goes on, with the low bits of its mark replaced when `mark` is given. */
export type Verdict = { readonly kind: 'drop' } | { readonly kind: 'pass'; readonly mark?: number };

const subsystem = 3 << 8;
const packetMessage = subsystem | 0;
const verdictMessage = subsystem | 1;
const headerBytes = 16 + 4;
const attributeHeaderBytes = 4;
const attribute = { packetHeader: 1, verdictHeader: 2, mark: 3, payload: 10 } as const;
const requestFlag = 1;
const verdicts = { drop: 0, pass: 1 } as const;

/** Null for a message that is no packet, such as an error about a verdict on a packet that is gone. */
export function parseQueuedPacket(message: Buffer): QueuedPacket | null {
  if (message.length < headerBytes || message.readUInt16LE(4) !== packetMessage) return null;
  const end = Math.min(message.length, message.readUInt32LE(0));
  let id: number | null = null;
  let mark = 0;
  let payload: Buffer | null = null;
  for (let at = headerBytes; at + attributeHeaderBytes <= end;) {
    const length = message.readUInt16LE(at);
    const value = message.subarray(at + attributeHeaderBytes, Math.min(end, at + length));
    const type = message.readUInt16LE(at + 2);
    if (type === attribute.packetHeader && value.length >= 4) id = value.readUInt32BE(0);
    if (type === attribute.mark && value.length >= 4) mark = value.readUInt32BE(0);
    if (type === attribute.payload) payload = value;
    at += Math.max(attributeHeaderBytes, (length + 3) & ~3);
  }
  return id === null ? null : { id, mark, syn: payload === null ? null : parseSyn(payload) };
}

/** The message that gives a verdict on a packet. */
export function verdictOn({ id, mark }: Pick<QueuedPacket, 'id' | 'mark'>, queue: number, verdict: Verdict): Buffer {
  const isMarked = verdict.kind === 'pass' && verdict.mark !== undefined;
  const message = Buffer.alloc(headerBytes + 12 + (isMarked ? 8 : 0));
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(verdictMessage, 4);
  message.writeUInt16LE(requestFlag, 6);
  message.writeUInt16BE(queue, 18);
  message.writeUInt16LE(12, 20);
  message.writeUInt16LE(attribute.verdictHeader, 22);
  message.writeUInt32BE(verdicts[verdict.kind], 24);
  message.writeUInt32BE(id, 28);
  if (isMarked) {
    message.writeUInt16LE(8, 32);
    message.writeUInt16LE(attribute.mark, 34);
    message.writeUInt32BE(((mark & ~markMask) | verdict.mark) >>> 0, 36);
  }
  return message;
}

const tcp = 6;
const synOnly = 0x02;
const synAckRstFin = 0x17;

/** RFC 791, RFC 8200, RFC 9293. An IPv6 packet with extension headers is left unread. */
function parseSyn(packet: Buffer): QueuedPacket['syn'] {
  const version = (packet[0] ?? 0) >> 4;
  if (version === 4 && packet[9] === tcp) return parseTcp(packet, ((packet[0] ?? 0) & 0x0f) * 4, 12, 4);
  if (version === 6 && packet[6] === tcp) return parseTcp(packet, 40, 8, 16);
  return null;
}

function parseTcp(packet: Buffer, tcpAt: number, sourceAt: number, addressBytes: number): QueuedPacket['syn'] {
  if (packet.length < tcpAt + 14 || ((packet[tcpAt + 13] ?? 0) & synAckRstFin) !== synOnly) return null;
  const ipAt = (at: number) => ipOfBytes(packet.subarray(at, at + addressBytes));
  return {
    // The kernel's packet is the origin of both brands, as for a socket.
    client: { ip: ipAt(sourceAt), port: packet.readUInt16BE(tcpAt) } as PeerAddress,
    dialled: { ip: ipAt(sourceAt + addressBytes), port: packet.readUInt16BE(tcpAt + 2) } as OriginalDestination,
  };
}
