import type { VerifiedChain } from '../credentials/verified-chains.js';
import type { WorkloadStatus } from './workload-status.js';

/** A workload of this node and everything the agent knows about its protection. */
export type ProtectedWorkload = WorkloadStatus & {
  /** Why its own connections may be refused: its namespace lacks an address; null: it has all, or none is captured yet. */
  readonly addressProblem: string | null;
  /** Of the certificate alone; null: there is none. */
  readonly certificateNotAfterMs: number | null;
  /** Why it is missing, or was not renewed; null: neither. */
  readonly certificateProblem: string | null;
  /** Null: there is no certificate, or no root that is trusted here verifies it. */
  readonly certificateChain: VerifiedChain | null;
};

/** What makes new connections of a workload fail now. */
export type Refusal = { readonly part: 'registry' | 'certificate' | 'listener' | 'capture'; readonly detail: string };

/**
 * Everything that makes every new connection of a workload be refused now, or pass unprotected. Empty: it is served. The
 * clock decides about certificates, so ask again rather than keep the answer.
 */
export function refusalsOf(workload: ProtectedWorkload, nowMs: number): Refusal[] {
  const refusals: Refusal[] = [];
  const certificate = certificateState(workload, nowMs);
  if (workload.identity === null) {
    refusals.push({ part: 'registry', detail: unreadableEntry });
  } else if (certificate !== null) {
    refusals.push({ part: 'certificate', detail: withProblem(certificate, workload.certificateProblem) });
  }
  if (!workload.captured) {
    refusals.push({ part: 'capture', detail: workload.problem ?? 'its traffic is not captured yet' });
    return refusals;
  }
  if (!workload.isListening) {
    const detail = withProblem('no worker listens in its namespace: every new connection is refused', workload.problem);
    refusals.push({ part: 'listener', detail });
  }
  if (workload.captureProblem !== null) refusals.push({ part: 'capture', detail: workload.captureProblem });
  return refusals;
}

const unreadableEntry =
  'its registry entry is of a newer controller and cannot be read: every new connection is refused until this agent is upgraded';

/** Why peers do not accept the certificate now; null: they do. */
function certificateState(
  { certificateNotAfterMs, certificateChain }: ProtectedWorkload,
  nowMs: number,
): string | null {
  if (certificateNotAfterMs === null) return 'it has no certificate';
  if (certificateNotAfterMs <= nowMs) return 'its certificate has expired';
  if (certificateChain === null) return 'its certificate ends at no root that this host trusts';
  if (certificateChain.notAfterMs <= nowMs) return 'a certificate above its own has expired';
  if (certificateChain.notBeforeMs <= nowMs) return null;
  const from = new Date(certificateChain.notBeforeMs).toISOString();
  return `its certificate is not valid before ${from}: compare this host's clock with the controller's`;
}

export function withProblem(state: string, problem: string | null): string {
  return problem === null ? state : `${state}: ${problem}`;
}
