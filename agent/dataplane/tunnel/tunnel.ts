import type { TunnelStream } from '../engine/tunnel-stream.js';
import type net from 'node:net';
import type { HostPort, IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Reason } from '../../../shared/reasons.js';
import type { CertificatesMessage, TunnelDump } from '../messages.js';
import type { TerminationSignal } from '../connection/termination-signal.js';

/**
 * What the data plane sees of HBONE (DESIGN §3), whatever engine speaks the HTTP/2 underneath. Every engine passes
 * `test/contract/tunnel-contract.ts`. One client and one server serve all workloads of one worker thread.
 */
export interface TunnelClient {
  /**
   * Opens one stream to `target.authority`, over a pooled tunnel or a new one. Resolves when the other agent answered
   * 200 (its application is connected) or when it cannot work; never rejects. A raised `signal` gives up: the reason is
   * that of its `ConnectionCut`.
   */
  open(target: TunnelTarget, options: { readonly signal: TerminationSignal }): Promise<OpenResult>;
  /**
   * Uses these from now on. Tunnels of identities whose certificate was renewed are used until a new one is up; without
   * the identity, or without one of the roots, they take no new streams at once. Either way they end with their last.
   */
  replaceCertificates(certificates: TunnelCertificates): void;
  /** Ends every tunnel of this source workload at once: an open socket would keep its namespace alive. */
  releaseWorkload(workload: string): void;
  dump(): TunnelDump[];
  counts(): TunnelCounts;
  /** Opens nothing new, waits for the streams, and ends what is left after `graceMs`. */
  drain(graceMs: number): Promise<void>;
}

export interface TunnelServer {
  /** Takes over a connection accepted on the tunnel port of `listener`; the socket belongs to the server from here on. */
  accept(rawSocket: net.Socket, listener: TunnelListener): void;
  /**
   * Uses these from now on. GOAWAY drains the tunnels of identities that changed: at half of what a renewed certificate had
   * left, so that clients come first, else at once. No stream is dropped.
   */
  replaceCertificates(certificates: TunnelCertificates): void;
  /** Ends every tunnel and handshake of this workload at once. */
  releaseWorkload(workload: string): void;
  dump(): TunnelDump[];
  counts(): TunnelCounts;
  /** What was turned away before there was a request, by kind; counted since the start. */
  refusedHandshakes(): Readonly<Record<RefusedHandshake, number>>;
  /** Refuses new tunnels and streams, waits for the open ones, and ends what is left after `graceMs`. */
  drain(graceMs: number): Promise<void>;
}

/** `rootsPem` alone decides whom to trust; an identity without a certificate can neither dial nor answer. */
export type TunnelCertificates = Pick<CertificatesMessage, 'rootsPem' | 'certificates'>;

export type TunnelCounts = { readonly tunnels: number; readonly streams: number };

/** Whose tunnel port a connection arrived on; its identity chooses the server certificate. */
export type TunnelListener = { readonly workload: string; readonly identity: SpiffeId };

export type TunnelTarget = {
  /** `namespace/name` of the workload of this host that dials. */
  readonly sourceWorkload: string;
  readonly sourceIdentity: SpiffeId;
  readonly sourceIp: IpAddress;
  /** The tunnel is dialled to this address, port {@link capturePorts}.inboundTunnel; equal to `authority.ip`. */
  readonly destinationIp: IpAddress;
  /** What the registry says of that address: the only identity that is accepted from it. */
  readonly destinationIdentity: SpiffeId;
  readonly authority: HostPort;
  readonly headers: TunnelHeaders;
};

/** Texts as ztunnel sends them; an empty one is left out. */
export type TunnelHeaders = { readonly forwarded: string; readonly baggage: string; readonly traceparent: string };

export type OpenResult = TunnelOpened | TunnelNotOpened;

export type TunnelOpened = { readonly ok: true; readonly stream: TunnelStream; readonly peerIdentity: SpiffeId };

export type TunnelNotOpened = {
  readonly ok: false;
  readonly reason: Reason;
  /** The rule that the other agent named, or empty. Text of the peer: shown, never acted on. */
  readonly rule: string;
  readonly detail: string;
  /** Another endpoint may be tried: this one could not be reached. Never true for a decision of policy. */
  readonly isRetryable: boolean;
};

export type TunnelRequest = {
  /** Proved by the client certificate. */
  readonly peerIdentity: SpiffeId;
  readonly peerAddress: HostPort;
  /** Checked: its IP is the local address of the tunnel. */
  readonly authority: HostPort;
  /** As the peer sent them, empty when missing. Nothing but text. */
  readonly headers: TunnelHeaders;
  /** The listener's. */
  readonly workload: string;
  /** Raised when the peer gave up, or the tunnel died, before the answer. */
  readonly signal: TerminationSignal;
  /** Answers 200. The stream is already reset when the peer has gone; it belongs to the caller. */
  accept(): TunnelStream;
  /** Answers with the status of the reason (shared/reasons.ts), `x-culvert-reason` and `x-culvert-rule`. */
  refuse(refusal: TunnelRefusal): void;
};

export type TunnelRefusal = { readonly reason: Reason; readonly rule: string };

/** Kinds of peers that were turned away: a closed set, used as a metric label. */
export const refusedHandshakeKinds = [
  /** Not TLS at all: plain text, HTTP/1.1, garbage. */
  'not_tls',
  /** TLS, but not 1.3 with ALPN h2, or it failed in another way. */
  'tls_failed',
  'handshake_timeout',
  /** The peer went away in the middle of the handshake. */
  'handshake_aborted',
  'no_certificate',
  'untrusted_certificate',
  'expired_certificate',
  'not_yet_valid_certificate',
  /** A certificate without exactly one SPIFFE ID of a workload, or of another trust domain. */
  'wrong_identity',
  /** This agent has no certificate for the workload yet. */
  'no_own_certificate',
  /** Trusted, but no request in time. */
  'no_request',
  /** Trusted, but broke HTTP/2 or its limits: floods, endless headers, bad frames. */
  'protocol_error',
  /** A request that is no CONNECT to the address it was dialled to. */
  'bad_request',
  /** Too many handshakes at once. */
  'overload',
] as const;
export type RefusedHandshake = (typeof refusedHandshakeKinds)[number];
