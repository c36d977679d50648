import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, TLSSocket } from 'node:tls';
import { closeFd, listenTcp, socketAddresses } from '../../../agent/native/addon.js';
import { dialSocket } from '../../../agent/native/dial-sockets.js';
import { IoListener, type Accepted } from '../../../agent/dataplane/io/io-listener.js';
import { IoSocket } from '../../../agent/dataplane/io/io-socket.js';
import type { Reactor } from '../../../agent/dataplane/io/reactor.js';
import { TlsContext, type TlsContextParts } from '../../../agent/dataplane/io/tls-context.js';
import type { TlsFailure, TlsPeer } from '../../../agent/dataplane/io/tls-peer.js';
import { TlsSession, type TlsOwner } from '../../../agent/dataplane/io/tls-session.js';
import type { TunnelCertificates } from '../../../agent/dataplane/tunnel/tunnel.js';
import { eventually } from '../tunnel/tunnel-pair.js';

/** The owner of a session that notes all that it is told. */
export class TlsEnd implements TlsOwner {
  session: TlsSession | null = null;
  peer: TlsPeer | null = null;
  bytes = 0;
  /** Of what came, in hexadecimal. */
  readonly sha = createHash('sha256');
  /** The first bytes that came. */
  text = '';
  /** `end`, `cut`, `written`, and at last the code of the failure, or `closed`. */
  readonly told: string[] = [];
  failure: TlsFailure | null = null;
  isClosed = false;
  /** Replace them. */
  judge: (peer: TlsPeer, session: TlsSession) => void = (_peer, session) => session.admit();
  onRead: () => void = () => {};
  onDrained: () => void = () => {};
  makeOutput: () => void = () => {};

  get live(): TlsSession {
    if (this.session === null) throw new Error('no session yet');
    return this.session;
  }

  /** Takes the session over, or notes why there is none. */
  take(begun: TlsSession | TlsFailure): void {
    if (begun instanceof TlsSession) this.session = begun;
    else this.onClosed(begun);
  }

  onHandshake(peer: TlsPeer): void {
    this.peer = peer;
    this.judge(peer, this.live);
  }

  onData(bytes: Buffer): void {
    this.bytes += bytes.length;
    this.sha.update(bytes);
    if (this.text.length < 200) this.text += bytes.toString('latin1', 0, 200);
    this.onRead();
  }

  onEnd(isCut: boolean): void {
    this.told.push(isCut ? 'cut' : 'end');
  }

  onWritten(): void {
    this.told.push('written');
    this.onDrained();
  }

  onOutput(): void {
    this.makeOutput();
  }

  onClosed(failure: TlsFailure | null): void {
    this.failure = failure;
    this.isClosed = true;
    this.told.push(failure?.code ?? 'closed');
  }

  async until(what: string): Promise<void> {
    await eventually(what, () => this.told.includes(what) || this.isClosed);
    assert.ok(this.told.includes(what), `${this.told.join()} in place of ${what}`);
  }

  async admitted(): Promise<void> {
    await eventually('the handshake', () => this.peer !== null || this.isClosed);
    assert.equal(this.failure, null);
  }

  /** All of it, as fast as the session takes it, then the end. */
  send(bytes: Buffer, pieceBytes = 300_000): void {
    let at = 0;
    const write = (): void => {
      while (at < bytes.length) {
        const piece = bytes.subarray(at, at + pieceBytes);
        at += piece.length;
        if (this.live.write(piece) > 0) return;
      }
      if (this.live.waiting === 0) this.live.end();
    };
    this.onDrained = write;
    write();
  }
}

export function tlsContext(
  reactor: Reactor,
  side: 'client' | 'server',
  { certificates: [own], rootsPem }: TunnelCertificates,
  wish: Partial<TlsContextParts> = {},
): TlsContext {
  const parts = { chainPem: own?.chainPem ?? '', keyPem: own?.keyPem ?? '', rootsPem, alpn: 'h2' };
  return new TlsContext(reactor, side, { ...parts, ...wish });
}

/** Listens on 127.0.0.1 and hands each connection to `onConnection`. */
export function listenWith(
  reactor: Reactor,
  onConnection: (accepted: Accepted, listener: IoListener) => void,
): { readonly listener: IoListener; readonly port: number } {
  const fd = listenTcp({ netnsFd: null, host: '127.0.0.1', port: 0, backlog: 64, reusePort: false });
  const { port } = socketAddresses(fd).local;
  const owner = {
    onConnection: (accepted: Accepted) => onConnection(accepted, listener),
    onExhausted: (code: string) => assert.fail(code),
  };
  const made = IoListener.adopt(reactor, fd, { owner });
  if (typeof made === 'string') {
    closeFd(fd);
    throw new Error(made);
  }
  const listener = made;
  return { listener, port };
}

/** Dials, and begins TLS when connected. */
export function dialTls(reactor: Reactor, port: number, context: TlsContext, end: TlsEnd): void {
  const owner = {
    onConnected: () => end.take(TlsSession.begin(reactor, { handle: socket.handOver(), context, owner: end })),
    onReadable: () => {},
    onBroken: (code: string) => assert.fail(code),
  };
  const fd = dialSocket({ netnsFd: null, family: 4, mark: 0 });
  const made = IoSocket.dial(reactor, { fd, ip: '127.0.0.1', port, owner });
  if (typeof made === 'string') throw new Error(made);
  const socket = made;
  if (socket.isConnected) owner.onConnected();
}

/** Both ends of one connection, on the floor. */
export function tlsEnds(
  reactor: Reactor,
  contexts: { readonly client: TlsContext; readonly server: TlsContext },
): { readonly near: TlsEnd; readonly far: TlsEnd } {
  const [near, far] = [new TlsEnd(), new TlsEnd()];
  const { listener, port } = listenWith(reactor, ({ handle }) => {
    listener.close();
    far.take(TlsSession.begin(reactor, { handle, context: contexts.server, owner: far }));
  });
  dialTls(reactor, port, contexts.client, near);
  return { near, far };
}

type Party = { readonly context: TlsContext; readonly end: TlsEnd };

/** Node's TLS as the client of a session of `party`. */
export async function nodeClient(
  reactor: Reactor,
  { context, end }: Party,
  { certificates: [own], rootsPem }: TunnelCertificates,
  options: object = {},
): Promise<TLSSocket> {
  const { listener, port } = listenWith(reactor, ({ handle }) => {
    listener.close();
    end.take(TlsSession.begin(reactor, { handle, context, owner: end }));
  });
  const raw = connectTcp({ port, host: '127.0.0.1', allowHalfOpen: true });
  await once(raw, 'connect');
  const identity = { ca: rootsPem, cert: own?.chainPem, key: own?.keyPem, checkServerIdentity: () => undefined };
  return connectTls({ socket: raw, ...identity, ALPNProtocols: ['h2'], ...options }).on('error', () => {});
}

/** Node's TLS as the server of a session of `party`. */
export async function nodeServer(
  reactor: Reactor,
  { context, end }: Party,
  { certificates: [own], rootsPem }: TunnelCertificates,
): Promise<TLSSocket> {
  const listening = createServer({ pauseOnConnect: true, allowHalfOpen: true });
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const accepted = once(listening, 'connection') as Promise<[Socket]>;
  dialTls(reactor, (listening.address() as AddressInfo).port, context, end);
  const [raw] = await accepted;
  listening.close();
  const secureContext = createSecureContext({ ca: rootsPem, cert: own?.chainPem, key: own?.keyPem });
  const options = { isServer: true, secureContext, requestCert: true, rejectUnauthorized: false };
  return new TLSSocket(raw, { ...options, ALPNProtocols: ['h2'] }).on('error', () => {});
}
