import type net from 'node:net';
import type { IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { Authorized } from '../connection/authorized.js';
import type { Ending, Refused } from '../connection/ending.js';
import type { RefusedHandshake } from '../connection/failure-reasons.js';
import type { TerminationSignal } from '../connection/termination-signal.js';
import type { TunnelStream } from '../engine/tunnel-stream.js';
import type { CertificatesMessage, TunnelDump } from '../messages.js';
import type { OriginalDestination, PeerAddress } from '../sockets/socket-addresses.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import type { TunnelPulse } from './tunnel-keepalive.js';

/**
 * HBONE as the rest of the data plane sees it, with any HTTP/2 engine underneath. Every engine passes
 * `test/contract/tunnel-contract.ts`. One client and one server serve all workloads of a worker thread.
 */
export interface TunnelClient {
  /**
   * Opens one stream to the authorized address, over a pooled tunnel or a new one. Resolves when the other agent answers
   * 200 (its application is connected), or with why it cannot. Never rejects. A raised signal gives up, with the reason of
   * its `ConnectionCut`.
   */
  open(authorized: Authorized, target: TunnelTarget): Promise<OpenResult>;
  /**
   * Uses these from now on. When a certificate was renewed, its tunnels are used until a new one is up. When an identity or
   * a root is gone, its tunnels take no new streams. Either way a tunnel ends with its last stream.
   */
  replaceCertificates(certificates: TunnelCertificates): void;
  /** Ends every tunnel of this source workload at once: an open socket would keep its namespace alive. */
  releaseWorkload(workload: WorkloadName): void;
  dump(): TunnelDump[];
  counts(): TunnelCounts;
  /** Opens no new streams, waits for open ones, and ends what is left after `graceMs`. */
  drain(graceMs: number): Promise<void>;
}

export interface TunnelServer {
  /** Takes over a connection accepted on the tunnel port of `listener`; the socket belongs to the server from here on. */
  accept(rawSocket: net.Socket, listener: TunnelListener): void;
  /**
   * Uses these from now on. GOAWAY drains the tunnels of identities that changed: after half of what a renewed certificate
   * had left, so that clients replace them first, otherwise at once. No stream is dropped.
   */
  replaceCertificates(certificates: TunnelCertificates): void;
  /** Ends every tunnel and handshake of this workload at once. */
  releaseWorkload(workload: WorkloadName): void;
  dump(): TunnelDump[];
  counts(): TunnelCounts;
  /** Peers refused before there was a request, by kind; counted since the start. */
  refusedHandshakes(): Readonly<Record<RefusedHandshake, number>>;
  /** Connections that found no place for their handshake and are not ended yet. */
  heldHandshakes(): number;
  /** Refuses new tunnels and streams, waits for the open ones, and ends what is left after `graceMs`. */
  drain(graceMs: number): Promise<void>;
}

/** Only `rootsPem` decides who is trusted. An identity without a certificate can neither dial nor accept. */
export type TunnelCertificates = Pick<CertificatesMessage, 'rootsPem' | 'certificates'>;

export type TunnelCounts = { readonly tunnels: number; readonly streams: number };

/** The workload whose tunnel port a connection arrived on; its identity chooses the server certificate. */
export type TunnelListener = { readonly workload: WorkloadName; readonly identity: SpiffeId };

export type TunnelTarget = {
  /** The workload of this host that dials. */
  readonly sourceWorkload: WorkloadName;
  readonly sourceIdentity: SpiffeId;
  readonly sourceIp: IpAddress;
  /** The tunnel is dialled to the inbound tunnel port of this address: the IP of the authorized address. */
  readonly destinationIp: IpAddress;
  /** The identity that the registry has for that address: no other is accepted from it. */
  readonly destinationIdentity: SpiffeId;
  readonly headers: TunnelHeaders;
};

/** Header texts as ztunnel sends them; an empty one is left out. */
export type TunnelHeaders = { readonly forwarded: string; readonly baggage: string; readonly traceparent: string };

export type OpenResult = TunnelOpened | Refused;

export type TunnelOpened = {
  readonly ok: true;
  readonly stream: TunnelStream;
  readonly peerIdentity: SpiffeId;
  /** Of the tunnel that carries the stream. */
  readonly pulse: TunnelPulse;
};

export type TunnelRequest = {
  /** Proved by the client certificate. */
  readonly peerIdentity: SpiffeId;
  readonly peerAddress: PeerAddress;
  /** Checked: its IP is the local address of the tunnel. */
  readonly authority: OriginalDestination;
  /** As the peer sent them, empty when missing. They are only shown. */
  readonly headers: TunnelHeaders;
  /** Of the tunnel that it came through. */
  readonly pulse: TunnelPulse;
  /** The limit that the peer exceeds with this request; null: none. */
  readonly limitPassed: string | null;
  /** `namespace/name` of the workload whose listener it came to. */
  readonly workload: WorkloadName;
  /** Raised when the peer gives up, or the tunnel ends, before the answer. */
  readonly signal: TerminationSignal;
  /** Answers 200. The stream belongs to the caller, and is already reset when the peer has left. */
  accept(): TunnelStream;
  /** Answers with the status of the reason (shared/reasons.ts), `x-culvert-reason` and `x-culvert-rule`. */
  refuse(refusal: TunnelRefusal): void;
};

export type TunnelRefusal = Pick<Ending, 'reason' | 'rule'>;

/** The value of a header that a peer sent; empty when it is missing, or there are several. */
export function textOf(value: string | readonly string[] | undefined): string {
  return typeof value === 'string' ? value : '';
}
