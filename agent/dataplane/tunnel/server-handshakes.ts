import type net from 'node:net';
import tls from 'node:tls';
import { formatHostPort, type HostPort } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Reason } from '../../../shared/reasons.js';
import { IdentityContexts, type CertificateChange } from './identity-contexts.js';
import { errorCodeOf, refusedHandshakeOf, type RefusedHandshake } from '../connection/failure-reasons.js';
import { ignoreError } from '../sockets/ignore-error.js';
import { socketAddresses, type PeerAddress } from '../sockets/socket-addresses.js';
import { verdictOn, type PeerProof } from './peer-verdict.js';
import { rejectFrames } from './reject-handshake.js';
import type { TunnelCertificates, TunnelListener } from './tunnel.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import { acceptedFd } from '../../native/addon.js';
import { unreadOn } from '../../native/tcp-life.js';
import { SlowEnds } from '../../../shared/slow-ends.js';
import { sourceOf } from '../../../shared/source-of.js';
import { HandshakeTurns } from './handshake-turns.js';

/** A peer that proved its identity and speaks h2. */
export type ProvedPeer = {
  readonly socket: tls.TLSSocket;
  /** What `socket` was made of. */
  readonly raw: net.Socket;
  readonly listener: TunnelListener;
  readonly identity: SpiffeId;
  readonly address: PeerAddress;
  /** The address that it dialled. */
  readonly localAddress: HostPort;
  /** Certificates or roots changed during the handshake: what was proved no longer counts. */
  readonly isOutdated: boolean;
};

type PairOfAddresses = { readonly local: HostPort; readonly peer: PeerAddress };

/** A connection from its accept until its peer is proved or refused, which happens once. */
type Pending = {
  readonly raw: net.Socket;
  readonly listener: TunnelListener;
  readonly addresses: PairOfAddresses;
  readonly timers: readonly NodeJS.Timeout[];
  isOutdated: boolean;
  isDecided: boolean;
};

/** Every stranger is disconnected within 10 s, also when the setting is 0 or longer. */
const longestMs = 9500;
/** How long a refused peer may take to read the reason. */
const rejectMs = 1000;

/**
 * The server's side of mutual TLS 1.3, with one `tls.Server` for each listener, which never listens itself. There is no
 * SNI: the listener chooses the certificate. Node verifies chain, dates and usages against the roots; the result is checked
 * here, because with `rejectUnauthorized` Node destroys the socket without an event that could be counted.
 */
export class ServerHandshakes {
  readonly #timeoutMs: number;
  readonly #onPeer: (peer: ProvedPeer) => void;
  readonly #onRefused: (kind: RefusedHandshake) => void;
  readonly #contexts = new IdentityContexts();
  readonly #servers = new Map<string, { readonly identity: SpiffeId; readonly server: tls.Server }>();
  /** Handshakes under way, by `pendingKey`. */
  readonly #pending = new Map<string, Pending>();
  /** Failures of sockets that no longer had addresses: the next sockets to close have failed in these ways. */
  readonly #unmatched: RefusedHandshake[] = [];
  readonly #turns = new HandshakeTurns();
  /** Those that found no place. They have no handshake, and who opened them cannot open others meanwhile. */
  readonly #ends: SlowEnds;

  constructor(init: {
    readonly timeoutMs: number;
    /** Held connections, see {@link held}: objects that share the descriptors for them. */
    readonly sharers: number;
    readonly onPeer: (peer: ProvedPeer) => void;
    readonly onRefused: (kind: RefusedHandshake) => void;
  }) {
    const { timeoutMs } = init;
    this.#ends = new SlowEnds({ sharers: init.sharers });
    this.#timeoutMs = timeoutMs === 0 ? longestMs : Math.min(timeoutMs, longestMs);
    this.#onPeer = init.onPeer;
    this.#onRefused = init.onRefused;
  }

  /** Connections that were refused and are not ended yet. */
  get held(): number {
    return this.#ends.size;
  }

  /** The handshake begins when the peer does, in its turn. */
  begin(raw: net.Socket, listener: TunnelListener): void {
    raw.on('error', ignoreError);
    const addresses = addressesOf(raw);
    if (addresses === null) {
      this.#onRefused('handshake_aborted');
      raw.destroy();
      return;
    }
    const onLate = () => this.#refuse(pending, 'handshake_timeout');
    const silence = setTimeout(onLate, this.#timeoutMs);
    // From here to the proof. A handshake that has begun has its own timeout too, which counts from there.
    const timers = [silence, setTimeout(onLate, longestMs)];
    const pending: Pending = { raw, listener, addresses, timers, isOutdated: false, isDecided: false };
    raw.once('close', () => {
      if (!pending.isDecided) this.#refuse(pending, this.#unmatched.shift() ?? 'handshake_aborted');
    });
    const source = sourceOf(addresses.peer.ip);
    this.#turns.enter({
      socket: raw,
      listener: listener.workload,
      source,
      look: () => lookAt(raw),
      begin: () => {
        clearTimeout(silence);
        const refusal = this.#tryBegin(pending);
        if (refusal !== null) this.#refuse(pending, refusal);
      },
      cut: (why) => {
        if (why !== 'overload') this.#refuse(pending, why === 'gone' ? 'handshake_aborted' : 'overload');
        else if (this.#refusal(pending, why)) this.#ends.hold({ socket: raw, source, group: listener.workload });
      },
    });
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

  /** A proved peer broke the protocol or its limits: it waits for its next handshake. */
  punish({ listener, address }: Pick<ProvedPeer, 'listener' | 'address'>): void {
    this.#turns.punish({ listener: listener.workload, source: sourceOf(address.ip) });
  }

  /** A proved peer did what costs others more than itself: its next handshakes come later, see {@link HandshakeTurns.charge}. */
  charge({ listener, address }: Pick<ProvedPeer, 'listener' | 'address'>, handshakes: number): void {
    this.#turns.charge({ listener: listener.workload, source: sourceOf(address.ip) }, handshakes);
  }

  /** Ends the handshakes under way for one workload, or for all (null), and what was refused. */
  abort(workload: WorkloadName | null): void {
    this.#ends.endAll(workload ?? undefined);
    for (const { socket } of this.#turns.of(workload)) socket.destroy();
    for (const key of this.#servers.keys()) {
      if (workload === null || key.startsWith(`${workload} `)) this.#servers.delete(key);
    }
  }

  #refuse(pending: Pending, kind: RefusedHandshake): void {
    if (this.#refusal(pending, kind)) pending.raw.destroy();
  }

  /**
   * Counts a connection once, and then returns true: closing its socket makes Node report one more failure, and two limits can
   * end together.
   */
  #refusal(pending: Pending, kind: RefusedHandshake): boolean {
    if (pending.isDecided) return false;
    this.#decide(pending);
    this.#onRefused(kind);
    return true;
  }

  #decide(pending: Pending): void {
    pending.isDecided = true;
    for (const timer of pending.timers) clearTimeout(timer);
    const key = pendingKey(pending.listener, pending.addresses);
    if (this.#pending.get(key) === pending) this.#pending.delete(key);
    this.#turns.leave(pending.raw);
  }

  #tryBegin(pending: Pending): RefusedHandshake | null {
    const { raw, listener, addresses } = pending;
    const server = this.#serverFor(listener);
    if (server === null) return 'no_own_certificate';
    const key = pendingKey(listener, addresses);
    // Without their zones, link-local peers of two interfaces can have the same address and port. One at a time.
    if (this.#pending.has(key)) return 'overload';
    this.#pending.set(key, pending);
    raw.setNoDelay(true);
    // A tunnel has no half-close. The TLS socket inherits this, and would otherwise survive the peer's FIN.
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
      server.on('secureConnection', (socket) => this.#verifyPeer(socket, listener));
      server.on('tlsClientError', (error, socket) => {
        this.#onFailure(socket, listener, errorCodeOf(error) ?? '');
        socket.destroy();
      });
      return server;
    } catch {
      return null;
    }
  }

  #onFailure(socket: tls.TLSSocket, listener: TunnelListener, code: string): void {
    const kind = refusedHandshakeOf(code) ?? 'tls_failed';
    // The close of the socket itself says so, and whether the agent had a reason of its own to end it.
    if (kind === 'handshake_aborted') return;
    const pending = this.#pendingOf(socket, listener);
    if (pending !== undefined) this.#refuse(pending, kind);
    // A timeout that finds no addresses fired while the agent closed the socket for a reason of its own.
    else if (kind !== 'handshake_timeout') this.#unmatched.push(kind);
  }

  /** The TLS handshake is complete. Nothing is proved until this accepts it. */
  #verifyPeer(socket: tls.TLSSocket, listener: TunnelListener): void {
    socket.on('error', ignoreError);
    const pending = this.#pendingOf(socket, listener);
    if (pending === undefined) {
      // The peer has gone. The close of its socket counts it.
      socket.destroy();
      return;
    }
    const verdict = verdictOn(provedBy(socket), listener.identity);
    if (typeof verdict === 'string') this.#turns.leaveProved(pending.raw);
    this.#decide(pending);
    if (typeof verdict !== 'string') {
      this.#onRefused(verdict.kind);
      rejectHandshake(socket, verdict.reason);
      return;
    }
    const { raw, addresses, isOutdated } = pending;
    const { peer: address, local: localAddress } = addresses;
    this.#onPeer({ socket, raw, listener, identity: verdict, address, localAddress, isOutdated });
  }

  /** Node does not tell which raw socket a TLS socket was made of, but both have the same addresses. */
  #pendingOf(socket: tls.TLSSocket, listener: TunnelListener): Pending | undefined {
    const addresses = addressesOf(socket);
    return addresses === null ? undefined : this.#pending.get(pendingKey(listener, addresses));
  }
}

/** Null when the peer has left, or the kernel does not say. */
function addressesOf(socket: net.Socket): PairOfAddresses | null {
  try {
    const addresses = socketAddresses(socket);
    return addresses === null || addresses.peer === null ? null : { ...addresses, peer: addresses.peer };
  } catch {
    return null;
  }
}

function lookAt(raw: net.Socket): 'bytes' | 'nothing' | 'gone' {
  if (raw.destroyed) return 'gone';
  return raw.readableLength > 0 ? 'bytes' : unreadOn(acceptedFd(raw));
}

function pendingKey(listener: TunnelListener, { peer, local }: PairOfAddresses): string {
  return `${listener.workload} ${formatHostPort(peer)} ${formatHostPort(local)}`;
}

/** What Node knows of a peer after the handshake. */
function provedBy(socket: tls.TLSSocket): PeerProof {
  return {
    alpn: typeof socket.alpnProtocol === 'string' ? socket.alpnProtocol : '',
    isResumed: socket.isSessionReused(),
    certificate: socket.getPeerX509Certificate()?.raw ?? null,
    distrust: socket.authorized ? null : { code: String(socket.authorizationError) },
  };
}

function rejectHandshake(socket: tls.TLSSocket, reason: Reason): void {
  const timer = setTimeout(() => socket.destroy(), rejectMs);
  socket.once('close', () => clearTimeout(timer));
  socket.end(rejectFrames(reason));
  socket.resume();
}
