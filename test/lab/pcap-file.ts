/**
 * Reads files of `tcpdump -w` (classic pcap, microseconds, this machine's byte order, Ethernet), only as far as needed to
 * tell which bytes were on the wire. Format: draft-ietf-opsawg-pcap.
 */
export type WireBytes = {
  /** Frames as they were captured. */
  readonly frames: readonly Buffer[];
  /** Payload of each TCP connection and direction, in the order of sequence numbers. */
  readonly streams: readonly WireStream[];
};

export type WireStream = { readonly from: string; readonly to: string; readonly bytes: Buffer };

const fileHeaderBytes = 24;
const recordHeaderBytes = 16;
const etherTypeIpv4 = 0x0800;
const etherTypeIpv6 = 0x86dd;
const protocolTcp = 6;

export function readPcap(pcap: Buffer): WireBytes {
  const frames: Buffer[] = [];
  let offset = fileHeaderBytes;
  while (offset + recordHeaderBytes <= pcap.length) {
    const length = pcap.readUInt32LE(offset + 8);
    const end = offset + recordHeaderBytes + length;
    // tcpdump is still writing this record; the next read gets it whole.
    if (end > pcap.length) break;
    frames.push(pcap.subarray(offset + recordHeaderBytes, end));
    offset = end;
  }
  return { frames, streams: assembleStreams(frames) };
}

/** Whether the bytes were readable on the wire, within one frame or across the segments of one TCP stream. */
export function wireContains(wire: WireBytes, pattern: Buffer | string): boolean {
  return wire.frames.some((frame) => frame.includes(pattern)) || wire.streams.some((s) => s.bytes.includes(pattern));
}

type Segment = { readonly from: string; readonly to: string; readonly sequence: number; readonly payload: Buffer };

function assembleStreams(frames: readonly Buffer[]): WireStream[] {
  const segmentsByFlow = new Map<string, Segment[]>();
  for (const frame of frames) {
    const segment = readSegment(frame);
    if (segment === null || segment.payload.length === 0) continue;
    const flow = `${segment.from} ${segment.to}`;
    const segments = segmentsByFlow.get(flow);
    if (segments === undefined) segmentsByFlow.set(flow, [segment]);
    else segments.push(segment);
  }
  return [...segmentsByFlow.values()].map(assemble);
}

/** Retransmitted bytes count once. Sequence numbers wrap, so they are compared relative to the first. */
function assemble(segments: readonly Segment[]): WireStream {
  const first = segments[0]?.sequence ?? 0;
  const placed = segments
    .map((s) => ({ at: (s.sequence - first) | 0, payload: s.payload }))
    .sort((a, b) => a.at - b.at);
  const parts: Buffer[] = [];
  let next = placed[0]?.at ?? 0;
  for (const { at, payload } of placed) {
    const known = Math.max(0, next - at);
    if (known >= payload.length) continue;
    parts.push(payload.subarray(known));
    next = at + payload.length;
  }
  return { from: segments[0]?.from ?? '', to: segments[0]?.to ?? '', bytes: Buffer.concat(parts) };
}

function readSegment(frame: Buffer): Segment | null {
  if (frame.length < 14) return null;
  const etherType = frame.readUInt16BE(12);
  if (etherType === etherTypeIpv4) return readIpv4(frame.subarray(14));
  return etherType === etherTypeIpv6 ? readIpv6(frame.subarray(14)) : null;
}

function readIpv4(packet: Buffer): Segment | null {
  if (packet.length < 20 || packet[9] !== protocolTcp) return null;
  const headerBytes = ((packet[0] ?? 0) & 0x0f) * 4;
  // Frames shorter than 60 bytes may carry padding behind the packet.
  const tcp = packet.subarray(headerBytes, packet.readUInt16BE(2) || packet.length);
  return readTcp(tcp, [...packet.subarray(12, 16)].join('.'), [...packet.subarray(16, 20)].join('.'));
}

/** Extension headers do not occur in a lab. */
function readIpv6(packet: Buffer): Segment | null {
  if (packet.length < 40 || packet[6] !== protocolTcp) return null;
  const payloadBytes = packet.readUInt16BE(4);
  const tcp = packet.subarray(40, payloadBytes === 0 ? packet.length : 40 + payloadBytes);
  return readTcp(tcp, packet.toString('hex', 8, 24), packet.toString('hex', 24, 40));
}

function readTcp(tcp: Buffer, source: string, destination: string): Segment | null {
  if (tcp.length < 20) return null;
  const headerBytes = ((tcp[12] ?? 0) >> 4) * 4;
  return {
    from: `${source} ${tcp.readUInt16BE(0)}`,
    to: `${destination} ${tcp.readUInt16BE(2)}`,
    sequence: tcp.readUInt32BE(4),
    payload: tcp.subarray(headerBytes),
  };
}
