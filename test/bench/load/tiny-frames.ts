import process from 'node:process';
import type tls from 'node:tls';

export type Flow = 'data' | 'acks' | 'windows' | 'resets';

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const type = { data: 0, headers: 1, reset: 3, settings: 4, windowUpdate: 8 } as const;
const headerBytes = 9;
const blockBytes = 65_536;

function frame(of: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(headerBytes);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = of;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** HPACK, literal without indexing. */
function connectTo(authority: string): Buffer {
  const fields = Object.entries({ ':method': 'CONNECT', ':authority': authority });
  return Buffer.concat(
    fields.flatMap(([name, value]) => [
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]),
  );
}

/**
 * Opens streams in an established tunnel, to the port that TARGET_PORT names of the address that was dialled, and sends frames
 * of the least size as fast as they are taken: `data` of one byte, in all streams in turn and within their windows; `acks` of
 * settings; `windows` that grow by one byte; `resets` of streams that were just opened, as many as one tunnel may.
 */
export function tinyFrames(init: {
  readonly socket: tls.TLSSocket;
  readonly flow: Flow;
  readonly streams: number;
  readonly sent: (bytes: number) => void;
}): void {
  const { socket, flow, streams, sent } = init;
  const authority = `${socket.remoteAddress?.replace('::ffff:', '') ?? ''}:${process.env['TARGET_PORT'] ?? ''}`;
  const block = connectTo(authority);
  const credit = new Map<number, number>();
  let connectionCredit = 65_535;
  let initial = 65_535;
  let rest: Buffer = Buffer.alloc(0);
  const onFrame = (of: number, flags: number, stream: number, payload: Buffer): void => {
    if (of === type.settings && (flags & 1) === 0) {
      for (let at = 0; at + 6 <= payload.length; at += 6) {
        if (payload.readUInt16BE(at) === 4) initial = payload.readUInt32BE(at + 2);
      }
    } else if (of === type.windowUpdate && stream === 0) connectionCredit += payload.readUInt32BE();
    else if (of === type.windowUpdate) credit.set(stream, (credit.get(stream) ?? 0) + payload.readUInt32BE());
    else if (of === type.headers) credit.set(stream, initial);
    pump();
  };
  socket.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= headerBytes) {
      const end = headerBytes + rest.readUIntBE(0, 3);
      if (rest.length < end) break;
      const [of = 0, flags = 0] = [rest[3], rest[4]];
      onFrame(of, flags, rest.readUInt32BE(5), Buffer.from(rest.subarray(headerBytes, end)));
      rest = rest.subarray(end);
    }
  });
  let isFull = false;
  const write = (bytes: Buffer): boolean => {
    sent(bytes.length);
    isFull = !socket.write(bytes);
    return !isFull;
  };
  socket.on('drain', () => {
    isFull = false;
    pump();
  });
  const repeated = (one: Buffer): Buffer => Buffer.concat(Array<Buffer>(Math.floor(blockBytes / one.length)).fill(one));
  const acks = repeated(frame(type.settings, 1, 0));
  const windows = repeated(frame(type.windowUpdate, 0, 0, Buffer.from([0, 0, 0, 1])));
  /** One byte in each stream in turn, made once for those that may send as much. */
  let prepared: { readonly key: string; readonly bytes: Buffer } = { key: '', bytes: Buffer.alloc(0) };
  const data = (): Buffer | null => {
    const ready = [...credit].filter(([, bytes]) => bytes > 0).map(([stream]) => stream);
    if (ready.length === 0) return null;
    const most = Math.max(1, Math.floor(blockBytes / 10 / ready.length));
    const each = Math.min(most, ...ready.map((stream) => credit.get(stream) ?? 0));
    if (each * ready.length > connectionCredit) return null;
    for (const stream of ready) credit.set(stream, (credit.get(stream) ?? 0) - each);
    connectionCredit -= each * ready.length;
    const key = `${each} ${ready.join()}`;
    if (prepared.key !== key) {
      const round = ready.map((stream) => frame(type.data, 0, stream, Buffer.from([0x78])));
      prepared = { key, bytes: Buffer.concat(Array.from({ length: each }, () => round).flat()) };
    }
    return prepared.bytes;
  };
  let next = 1;
  const resets = (): Buffer | null => {
    // 1000 at once are allowed in a tunnel, and few a second after them: it is dialled again then.
    if (next >= 1990) {
      socket.destroy();
      return null;
    }
    const made: Buffer[] = [];
    for (let index = 0; index < 100; index++, next += 2) {
      made.push(frame(type.headers, 4, next, block), frame(type.reset, 0, next, Buffer.from([0, 0, 0, 8])));
    }
    return Buffer.concat(made);
  };
  const make = { data, acks: () => acks, windows: () => windows, resets }[flow];
  const pump = (): void => {
    for (let bytes = isFull ? null : make(); bytes !== null; bytes = make()) {
      if (socket.destroyed || !write(bytes)) return;
    }
  };
  socket.write(Buffer.concat([preface, frame(type.settings, 0, 0)]));
  if (flow === 'data') {
    for (let index = 0; index < streams; index++) socket.write(frame(type.headers, 4, 2 * index + 1, block));
  }
  // Where nothing answers, as in a server that is no tunnel, the windows are those of the protocol, without end.
  if (process.env['WITHOUT_WINDOWS'] === '1') {
    connectionCredit = Number.POSITIVE_INFINITY;
    for (let index = 0; index < streams; index++) credit.set(2 * index + 1, Number.POSITIVE_INFINITY);
  }
  pump();
}
