import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import type { TunnelCertificates } from '../../../agent/dataplane/tunnel/tunnel.js';
import { serverIp, withDeadline } from './tunnel-pair.js';

export type Frame = {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
};

export const frameType = {
  data: 0,
  headers: 1,
  rst: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
} as const;
export const endStream = 1;
export const endHeaders = 4;

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function encodeFrame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header.writeUInt8(type, 3);
  header.writeUInt8(flags, 4);
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** HPACK "literal without indexing, new name" (RFC 7541 §6.2.2), for texts under 127 bytes. */
export function encodeHeaders(headers: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(
    Object.entries(headers).flatMap(([name, value]) => [
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ]),
  );
}

/** The most HTTP/2-ignorant client that can still finish a TLS handshake: it sends what it is told to. */
export class RawPeer implements AsyncDisposable {
  readonly socket: tls.TLSSocket;
  readonly frames: Frame[] = [];
  #rest = Buffer.alloc(0);

  private constructor(socket: tls.TLSSocket) {
    this.socket = socket;
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => this.#parse(chunk));
  }

  /** Connects with this certificate or without one, and verifies nothing. Resolves when TLS is up, or rejects. */
  static async connect(
    port: number,
    own: TunnelCertificates | null,
    options: tls.ConnectionOptions = {},
  ): Promise<RawPeer> {
    const certificate = own?.certificates[0];
    const socket = tls.connect({
      host: serverIp,
      port,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
      ...(certificate === undefined ? {} : { cert: certificate.chainPem, key: certificate.keyPem }),
      ...options,
    });
    const peer = new RawPeer(socket);
    await withDeadline('the TLS handshake', once(socket, 'secureConnect'));
    return peer;
  }

  /** With the connection preface and an empty SETTINGS before it. */
  static async connectHttp2(port: number, own: TunnelCertificates): Promise<RawPeer> {
    const peer = await RawPeer.connect(port, own);
    peer.send(preface, encodeFrame(frameType.settings, 0, 0));
    return peer;
  }

  send(...parts: Buffer[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  /** Resolves when the other side has closed the connection. */
  async closed(deadlineMs = 12_000): Promise<void> {
    if (this.socket.closed) return;
    await withDeadline(
      'the close of the connection',
      new Promise<void>((resolve) => this.socket.once('close', () => resolve())),
      deadlineMs,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
    await this.closed();
  }

  #parse(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      this.frames.push({
        type: this.#rest.readUInt8(3),
        flags: this.#rest.readUInt8(4),
        stream: this.#rest.readUInt32BE(5),
        payload: this.#rest.subarray(9, 9 + length),
      });
      this.#rest = this.#rest.subarray(9 + length);
    }
  }
}

/** Sends bytes that are no TLS; resolves with how long it took until the other side closed. */
export async function sendPlain(port: number, bytes: string | Buffer): Promise<number> {
  const socket = net.connect({ host: serverIp, port });
  socket.on('error', () => {});
  const startedAtMs = performance.now();
  const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.write(bytes);
  socket.resume();
  await withDeadline('the close of the connection', gone, 12_000);
  return performance.now() - startedAtMs;
}
