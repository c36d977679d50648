import type { Duplex } from 'node:stream';
import type tls from 'node:tls';
import type { TunnelSettings } from './session-options.js';
import type { TunnelStream } from './tunnel-stream.js';

/**
 * What speaks HTTP/2 on a connection whose TLS is up. Everything else about tunnels (who may dial, pools, rotation,
 * PINGs, limits of time) is the same for every engine. Sessions and streams have the part of `node:http2`'s interface
 * that tunnels use, so that its own classes fit as they are. deploy/docs/engine.md says why there are two engines, and what
 * was tried to make them fast.
 */
export interface Http2Engine {
  /** Begins the client's side; `socket` belongs to the session. */
  connect(socket: tls.TLSSocket, settings: TunnelSettings): ClientSession;
  /** Begins the server's side; `socket` belongs to the session. */
  accept(socket: tls.TLSSocket, settings: TunnelSettings): ServerSession;
  /** The same stream, for the relay. `deathOfTunnel` says what the connection died of, or nothing. */
  asTunnelStream(stream: SessionStream, deathOfTunnel: () => string): TunnelStream;
  /** RST_STREAM with this code, and no END_STREAM before it. */
  resetStream(stream: SessionStream, code: number): void;
  /** Called while a session has streams; returns what is to be called when it has none. */
  keepReading(socket: tls.TLSSocket): () => void;
}

/**
 * `error`: the peer broke HTTP/2; `close`: it and its streams are gone; `goaway`: code, last stream, debug data;
 * `remoteSettings`: the peer's SETTINGS.
 */
export interface Session {
  /** It takes no new streams. */
  readonly closed: boolean;
  readonly destroyed: boolean;
  /** GOAWAY; ends with its last stream. */
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
  /** A CONNECT; throws when there can be no new stream. */
  request(headers: Readonly<Record<string, string>>, options: { readonly endStream: false }): SessionStream;
}

export type ServerSession = Session;

/** `response`: a client's stream has got its {@link HeadersOfPeer}. */
export interface SessionStream extends Duplex {
  /** The code that it was reset with, by either side; 0 or undefined: it was not. */
  readonly rstCode?: number | undefined;
}

export interface ServerStream extends SessionStream {
  respond(headers: Readonly<Record<string, string | number>>, options?: { readonly endStream: boolean }): void;
}

export type HeadersOfPeer = Readonly<Record<string, string | readonly string[] | undefined>>;
