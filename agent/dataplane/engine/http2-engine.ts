import type { Duplex } from 'node:stream';
import type tls from 'node:tls';
import type { TunnelSettings } from './session-options.js';
import type { TunnelStream } from './tunnel-stream.js';

/**
 * An HTTP/2 implementation for connections whose TLS is established. Everything else about tunnels (who may dial,
 * pools, rotation, PINGs, timeouts) is the same for every engine. Sessions and streams have the part of `node:http2`'s
 * interface that tunnels use, so Node's own classes fit as they are.
 * deploy/docs/engine.md says why there are two engines, and what was tried to make them fast.
 */
export interface Http2Engine {
  /** Starts the client side. The session owns `socket`. */
  connect(socket: tls.TLSSocket, settings: TunnelSettings): ClientSession;
  /** Starts the server side. The session owns `socket`. */
  accept(socket: tls.TLSSocket, settings: TunnelSettings): ServerSession;
  /** Returns the same stream for the relay. `deathOfTunnel` returns why the connection died, or an empty text. */
  asTunnelStream(stream: SessionStream, deathOfTunnel: () => string): TunnelStream;
  /** Sends RST_STREAM with this code, without END_STREAM before it. */
  resetStream(stream: SessionStream, code: number): void;
  /** Called while a session has streams. Call the returned function when it has none left. */
  keepReading(socket: tls.TLSSocket): () => void;
}

/**
 * Events. `error`: the peer violated HTTP/2. `close`: the session and its streams are gone. `goaway`: code, last
 * stream, debug data. `remoteSettings`: the peer's SETTINGS.
 */
export interface Session {
  /** It accepts no new streams. */
  readonly closed: boolean;
  readonly destroyed: boolean;
  /** Sends GOAWAY; ends with its last stream. */
  close(): void;
  /** Ends at once. */
  destroy(): void;
  ping(onAnswer: (error: Error | null) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'goaway', listener: (code: number, lastStreamId: number, debugData?: Buffer) => void): unknown;
  on(event: 'stream', listener: (stream: ServerStream, headers: HeadersOfPeer) => void): unknown;
  once(event: 'goaway', listener: (code: number, lastStreamId: number, debugData?: Buffer) => void): unknown;
  once(event: 'remoteSettings' | 'close', listener: () => void): unknown;
  off(event: 'close', listener: () => void): unknown;
}

export interface ClientSession extends Session {
  readonly remoteSettings: { readonly maxConcurrentStreams?: number | undefined };
  /** Sends a CONNECT; throws if no new stream is possible. */
  request(headers: Readonly<Record<string, string>>, options: { readonly endStream: false }): SessionStream;
}

export type ServerSession = Session;

/** Event `response`: a client's stream received its {@link HeadersOfPeer}. */
export interface SessionStream extends Duplex {
  /** The code that either side reset it with; 0 or undefined: it was not reset. */
  readonly rstCode?: number | undefined;
}

export interface ServerStream extends SessionStream {
  respond(headers: Readonly<Record<string, string | number>>, options?: { readonly endStream: boolean }): void;
}

export type HeadersOfPeer = Readonly<Record<string, string | readonly string[] | undefined>>;
