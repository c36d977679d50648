import type { SpiffeId } from '../../../shared/identity.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { Reason } from '../../../shared/reasons.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { RegistryIndex } from '../route/registry-index.js';
import type { CertificatesMessage } from '../messages.js';

/** Everything that a worker decides by. Written by its message handler only; the flows read the current value. */
export class WorkerState {
  readonly registry = new RegistryIndex();
  /** By `namespace/name`: the workloads of this node whose namespaces the worker holds open. */
  readonly hosted = new Map<string, HostedWorkload>();
  #snapshot: Snapshot | null = null;
  #certificateEnds: ReadonlyMap<SpiffeId, number> = new Map();

  get snapshot(): Snapshot | null {
    return this.#snapshot;
  }

  useSnapshot(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
  }

  useCertificates(message: CertificatesMessage): void {
    this.#certificateEnds = new Map(message.certificates.map(({ identity, notAfterMs }) => [identity, notAfterMs]));
  }

  /** Whether the control thread still gives this identity a certificate, valid or not. */
  hasCertificate(identity: SpiffeId): boolean {
    return this.#certificateEnds.has(identity);
  }

  /** Why nothing can be decided or proved for this workload yet; null when all that is needed is there. */
  notReadyReason(workload: WorkloadEntry, nowMs: number): { readonly reason: Reason; readonly detail: string } | null {
    if (!this.registry.isFilled) return { reason: 'NO_RULES_YET', detail: 'no registry yet' };
    if (this.#snapshot === null) return { reason: 'NO_RULES_YET', detail: 'no rules yet' };
    const notAfterMs = this.#certificateEnds.get(workload.identity);
    if (notAfterMs === undefined) return { reason: 'NO_RULES_YET', detail: `no certificate for ${workload.identity}` };
    if (notAfterMs > nowMs) return null;
    return { reason: 'CERT_EXPIRED', detail: `own certificate ended ${new Date(notAfterMs).toISOString()}` };
  }
}
