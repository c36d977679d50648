import type { ProtectedWorkload } from '../../../agent/control/workloads/refusals.js';
import type { SpiffeId } from '../../../shared/identity.js';
import { workloadNamed } from '../routing/names.js';

/** A workload of which nothing is wrong, with a certificate from a second before to a second after `nowMs`. */
export function servedWorkload(
  nowMs: number,
): ProtectedWorkload & { readonly certificateChain: NonNullable<ProtectedWorkload['certificateChain']> } {
  return {
    name: workloadNamed('shop/web'),
    identity: 'spiffe://test.local/ns/shop/sa/web' as SpiffeId,
    netnsPath: '/run/netns/web',
    captured: true,
    problem: null,
    hasFailed: false,
    isListening: true,
    waitsForCharge: false,
    lateAcceptProblem: null,
    captureProblem: null,
    addresses: [],
    addressProblem: null,
    certificateNotAfterMs: nowMs + 1000,
    certificateProblem: null,
    certificateChain: { rootHash: 'a'.repeat(64), notBeforeMs: nowMs - 1000, notAfterMs: nowMs + 1000 },
  };
}
