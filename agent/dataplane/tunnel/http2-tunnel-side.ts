import type { IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { TunnelDump } from '../messages.js';
import type { Http2Engine } from '../engine/http2-engine.js';
import type { TunnelSettings } from '../engine/session-options.js';
import type { CertificateChange } from './identity-contexts.js';
import type { TunnelCertificates, TunnelCounts } from './tunnel.js';
import type { TunnelConnection } from './tunnel-connection.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** What the other agent proves, and the address of its workload. */
export type TunnelPeer = { readonly ip: IpAddress; readonly identity: SpiffeId };

/** Tunnels of one workload that start and end together: a client's pool, or one tunnel of a server. */
export interface TunnelGroup {
  /** `namespace/name` of the workload of this node. */
  readonly workload: WorkloadName;
  /** The identity that this node proves on them. */
  readonly ownIdentity: SpiffeId;
  readonly peer: TunnelPeer;
  readonly connections: Iterable<TunnelConnection>;
  /** Open streams continue; new ones need another tunnel. */
  retire(): void;
  /** The certificate was replaced; the one before is valid for `leftMs` more. Replaces the tunnels without losing a request. */
  renew(leftMs: number): void;
  /** Ends everything at once, a handshake under way too. */
  end(why: string): void;
  /** As {@link end} with RST: the workload leaves, and nothing may stay in its namespace. */
  release(): void;
}

const pollMs = 20;
/** What is left after the grace period of a drain is ended, and closes within this time. Also the grace for unproved peers. */
const closingMs = 1000;

/** What both sides of HBONE do in the same way: follow certificates, release workloads, drain, and report. */
export abstract class Http2TunnelSide {
  protected readonly settings: TunnelSettings;
  protected readonly engine: Http2Engine;
  protected readonly nowMs: () => number;
  protected isDraining = false;

  /** `nowMs` is compared with the ends of certificates. */
  constructor(init: {
    readonly settings: TunnelSettings;
    readonly engine: Http2Engine;
    readonly nowMs?: () => number;
  }) {
    this.settings = init.settings;
    this.engine = init.engine;
    this.nowMs = init.nowMs ?? Date.now;
  }

  /** All groups that have a tunnel, or a handshake under way. */
  protected abstract groups(): Iterable<TunnelGroup>;
  protected abstract useCertificates(certificates: TunnelCertificates): CertificateChange;
  /** Ends handshakes that have no group yet, of one workload or of all (null). */
  protected abort?(workload: WorkloadName | null): void;

  replaceCertificates(certificates: TunnelCertificates): void {
    const { renewed, ended } = this.useCertificates(certificates);
    for (const group of this.groups()) {
      const validUntilMs = renewed.get(group.ownIdentity);
      if (ended.has(group.ownIdentity)) group.retire();
      else if (validUntilMs !== undefined) group.renew(validUntilMs - this.nowMs());
    }
  }

  releaseWorkload(workload: WorkloadName): void {
    this.abort?.(workload);
    for (const group of this.groups()) if (group.workload === workload) group.release();
  }

  /**
   * Ends the tunnels of peers that are no longer what they proved, after a moment in which the other side learns why its
   * connections were cut.
   */
  endUnproved(isUnproved: (peer: TunnelPeer) => boolean): void {
    for (const group of this.groups()) {
      const { peer } = group;
      if (!isUnproved(peer)) continue;
      group.retire();
      const timer = setTimeout(() => {
        if (isUnproved(peer)) group.end(`${peer.ip} is no longer ${peer.identity}`);
      }, closingMs);
      timer.unref();
    }
  }

  dump(): TunnelDump[] {
    return [...this.#connections()].map((tunnel) => tunnel.dump());
  }

  counts(): TunnelCounts {
    let tunnels = 0;
    let streams = 0;
    for (const tunnel of this.#connections()) {
      tunnels += 1;
      streams += tunnel.streams;
    }
    return { tunnels, streams };
  }

  async drain(graceMs: number): Promise<void> {
    this.isDraining = true;
    this.abort?.(null);
    for (const group of this.groups()) group.retire();
    await this.#closed(graceMs);
    for (const group of this.groups()) group.end('the agent is shutting down');
    await this.#closed(closingMs);
  }

  /** Resolves when no tunnel is left, or after `withinMs`. Polls: a process drains once. */
  async #closed(withinMs: number): Promise<void> {
    const deadlineMs = performance.now() + withinMs;
    while (this.counts().tunnels > 0 && performance.now() < deadlineMs) {
      await new Promise((resolve) => {
        setTimeout(resolve, pollMs);
      });
    }
  }

  *#connections(): Generator<TunnelConnection> {
    for (const group of this.groups()) yield* group.connections;
  }
}
