import type net from 'node:net';
import tls from 'node:tls';
import { formatHostPort, type HostPort, type IpAddress } from '../../../shared/address.js';
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import { spiffeIdOf } from '../../../shared/pki/spiffe-id-of-certificate.js';
import type { Reason } from '../../../shared/reasons.js';
import { IdentityContexts, type CertificateChange } from './identity-contexts.js';
import { socketAddresses, type SocketAddresses } from '../sockets/socket-addresses.js';
import type { RefusedHandshake, TunnelCertificates, TunnelListener } from './tunnel.js';
import { rejectFrames } from './reject-handshake.js';

/** A peer that proved who it is, and speaks h2. */
export type ProvedPeer = {
  readonly socket: tls.TLSSocket;
  /** What `socket` was made of. */
  readonly raw: net.Socket;
  readonly listener: TunnelListener;
  readonly identity: SpiffeId;
  readonly address: HostPort;
  /** Where it dialled to. */
  readonly localAddress: HostPort;
  /** Its proof, or ours, does not count any more: certificates or roots went while it shook hands. */
  readonly isOutdated: boolean;
};

type Pending = {
  readonly raw: net.Socket;
  readonly listener: TunnelListener;
  readonly addresses: SocketAddresses;
  isOutdated: boolean;
};

/** Handshakes under way at once, over all workloads. Each holds a socket, an SSL object and at most some 100 KiB. */
const maxPending = 1024;
/** Of one address, so that one stranger cannot take the place of everybody. More than an agent that starts again needs. */
const maxPendingPerPeer = 256;
/** When the setting is 0 or more than this: every stranger is gone within 10 s (issue 2). */
const longestHandshakeMs = 9500;
/** How long a peer that is turned away may take to read why. */
const rejectMs = 1000;

/**
 * The server's side of mutual TLS 1.3: a `tls.Server` for each listener, which never listens. There is no SNI, so the
 * listener chooses the certificate. Node verifies the chain, dates and usages against the roots; what that means is
 * decided here, because with `rejectUnauthorized` Node destroys the socket without any event that could be counted.
 */
export class ServerHandshakes {
  readonly #timeoutMs: number;
  readonly #onPeer: (peer: ProvedPeer) => void;
  readonly #onRefused: (kind: RefusedHandshake) => void;
  readonly #contexts = new IdentityContexts();
  readonly #servers = new Map<string, { readonly identity: SpiffeId; readonly server: tls.Server }>();
  readonly #pending = new Map<string, Pending>();
  readonly #pendingByPeer = new Map<IpAddress, number>();

  constructor(options: {
    readonly timeoutMs: number;
    readonly onPeer: (peer: ProvedPeer) => void;
    readonly onRefused: (kind: RefusedHandshake) => void;
  }) {
    const { timeoutMs } = options;
    this.#timeoutMs = timeoutMs === 0 ? longestHandshakeMs : Math.min(timeoutMs, longestHandshakeMs);
    this.#onPeer = options.onPeer;
    this.#onRefused = options.onRefused;
  }

  begin(raw: net.Socket, listener: TunnelListener): void {
    raw.on('error', () => {});
    const refusal = this.#tryBegin(raw, listener);
    if (refusal === null) return;
    this.#onRefused(refusal);
    raw.destroy();
  }

  replaceCertificates(certificates: TunnelCertificates): CertificateChange {
    const change = this.#contexts.replace(certificates);
    for (const [key, { identity }] of this.#servers) {
      if (change.ended.has(identity) || change.renewed.has(identity)) this.#servers.delete(key);
    }
    for (const pending of this.#pending.values())
      if (change.ended.has(pending.listener.identity)) pending.isOutdated = true;
    return change;
  }

  /** Ends what is under way for this workload, or for all. */
  abort(workload: string | null): void {
    for (const pending of this.#pending.values()) {
      if (workload === null || pending.listener.workload === workload) pending.raw.destroy();
    }
    for (const key of this.#servers.keys()) {
      if (workload === null || key.startsWith(`${workload} `)) this.#servers.delete(key);
    }
  }

  #tryBegin(raw: net.Socket, listener: TunnelListener): RefusedHandshake | null {
    const addresses = socketAddresses(raw);
    if (addresses === undefined) return 'handshake_aborted';
    const ofPeer = this.#pendingByPeer.get(addresses.remote.ip) ?? 0;
    if (this.#pending.size >= maxPending || ofPeer >= maxPendingPerPeer) return 'overload';
    const server = this.#serverFor(listener);
    if (server === null) return 'no_own_certificate';
    const key = pendingKey(listener, addresses);
    this.#pending.set(key, { raw, listener, addresses, isOutdated: false });
    this.#pendingByPeer.set(addresses.remote.ip, ofPeer + 1);
    raw.once('close', () => {
      if (this.#pending.get(key)?.raw === raw) this.#forget(key);
    });
    raw.setNoDelay(true);
    // A tunnel has no half-close; the TLS socket takes this over, and would else survive the peer's FIN.
    raw.allowHalfOpen = false;
    server.emit('connection', raw);
    return null;
  }

  #serverFor(listener: TunnelListener): tls.Server | null {
    const key = `${listener.workload} ${listener.identity}`;
    const known = this.#servers.get(key);
    if (known !== undefined) return known.server;
    const options = this.#contexts.optionsFor(listener.identity);
    if (options === null) return null;
    const server = this.#makeServer(options, listener);
    if (server !== null) this.#servers.set(key, { identity: listener.identity, server });
    return server;
  }

  #makeServer(options: tls.SecureContextOptions, listener: TunnelListener): tls.Server | null {
    try {
      const server = tls.createServer({
        ...options,
        requestCert: true,
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
        handshakeTimeout: this.#timeoutMs,
      });
      server.on('secureConnection', (socket) => this.#judge(socket, listener));
      server.on('tlsClientError', (error, socket) => {
        this.#onRefused(kindOfTlsError(error));
        socket.destroy();
      });
      return server;
    } catch {
      return null;
    }
  }

  /** The TLS handshake is complete, and nothing is proved until this has said so. */
  #judge(socket: tls.TLSSocket, listener: TunnelListener): void {
    socket.on('error', () => {});
    const pending = this.#takePending(socket, listener);
    if (pending === undefined) {
      this.#onRefused('handshake_aborted');
      socket.destroy();
      return;
    }
    const verdict = verdictOn(socket, listener.identity);
    if (typeof verdict !== 'string') {
      this.#onRefused(verdict.kind);
      rejectHandshake(socket, verdict.reason);
      return;
    }
    const { raw, addresses, isOutdated } = pending;
    const { remote: address, local: localAddress } = addresses;
    this.#onPeer({ socket, raw, listener, identity: verdict, address, localAddress, isOutdated });
  }

  /** Node does not say which raw socket a TLS socket was made of, but both have the same two addresses. */
  #takePending(socket: tls.TLSSocket, listener: TunnelListener): Pending | undefined {
    const addresses = socketAddresses(socket);
    if (addresses === undefined) return undefined;
    return this.#forget(pendingKey(listener, addresses));
  }

  #forget(key: string): Pending | undefined {
    const pending = this.#pending.get(key);
    if (pending === undefined) return undefined;
    this.#pending.delete(key);
    const { ip } = pending.addresses.remote;
    const left = (this.#pendingByPeer.get(ip) ?? 1) - 1;
    if (left === 0) this.#pendingByPeer.delete(ip);
    else this.#pendingByPeer.set(ip, left);
    return pending;
  }
}

type Refused = { readonly kind: RefusedHandshake; readonly reason: Reason };

function refused(kind: RefusedHandshake, reason: Reason = 'TLS_HANDSHAKE'): Refused {
  return { kind, reason };
}

function pendingKey(listener: TunnelListener, { remote, local }: SocketAddresses): string {
  return `${listener.workload} ${formatHostPort(remote)} ${formatHostPort(local)}`;
}

/** The peer's identity, or why it is turned away. */
function verdictOn(socket: tls.TLSSocket, ownIdentity: SpiffeId): SpiffeId | Refused {
  // A resumed session would have no certificate to look at; tickets are off, so this is a second lock.
  if (socket.alpnProtocol !== 'h2' || socket.isSessionReused()) return refused('tls_failed');
  const certificate: Uint8Array | undefined = socket.getPeerX509Certificate()?.raw;
  if (certificate === undefined) return refused('no_certificate');
  if (!socket.authorized) return unauthorized(String(socket.authorizationError));
  const identity = spiffeIdOf(certificate);
  if (identity === null) return refused('wrong_identity', 'PEER_IDENTITY');
  const isOfOurDomain = parseSpiffeId(identity)?.trustDomain === parseSpiffeId(ownIdentity)?.trustDomain;
  return isOfOurDomain ? identity : refused('wrong_identity', 'PEER_IDENTITY');
}

/** `code` is OpenSSL's verification result (openssl-verification-options(1)). */
function unauthorized(code: string): Refused {
  if (code === 'CERT_HAS_EXPIRED') return refused('expired_certificate', 'CERT_EXPIRED');
  if (code === 'CERT_NOT_YET_VALID') return refused('not_yet_valid_certificate', 'CERT_NOT_YET_VALID');
  return refused('untrusted_certificate');
}

function rejectHandshake(socket: tls.TLSSocket, reason: Reason): void {
  const timer = setTimeout(() => socket.destroy(), rejectMs);
  socket.once('close', () => clearTimeout(timer));
  socket.end(rejectFrames(reason));
  socket.resume();
}

/** What OpenSSL says of bytes that are no TLS record at all. */
const notTlsCodes: ReadonlySet<string> = new Set([
  'ERR_SSL_HTTP_REQUEST',
  'ERR_SSL_HTTPS_PROXY_REQUEST',
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'ERR_SSL_RECORD_LAYER_FAILURE',
  'ERR_SSL_BAD_RECORD_TYPE',
  'ERR_SSL_UNEXPECTED_MESSAGE',
]);

function kindOfTlsError(error: Error): RefusedHandshake {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (code === 'ERR_TLS_HANDSHAKE_TIMEOUT') return 'handshake_timeout';
  if (code === 'ECONNRESET' || code === 'EPIPE' || code === 'ETIMEDOUT') return 'handshake_aborted';
  if (notTlsCodes.has(code)) return 'not_tls';
  return code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE' ? 'no_certificate' : 'tls_failed';
}
