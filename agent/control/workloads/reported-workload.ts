import type { Heartbeat } from '../../../shared/wire/requests.js';
import { refusalsOf, type ProtectedWorkload } from './refusals.js';

/** Maximum length of a problem in a heartbeat (`shared/wire/requests.ts`), in characters. */
export const maxAlarmLength = 2048;

/** What a heartbeat says of a workload. */
export function reportedWorkload(workload: ProtectedWorkload, nowMs: number): Heartbeat['workloads'][number] {
  const { name, captured, certificateNotAfterMs, certificateProblem, lateAcceptProblem, addressProblem } = workload;
  const [refusal] = refusalsOf(workload, nowMs);
  const problem = refusal?.detail ?? workload.problem ?? addressProblem ?? certificateProblem ?? lateAcceptProblem;
  return {
    name,
    captured,
    certificateNotAfterMs,
    problem: problem?.slice(0, maxAlarmLength) ?? null,
    ...(captured && refusal !== undefined ? { isUnserved: true } : {}),
    ...(lateAcceptProblem === null ? {} : { lateAcceptProblem: lateAcceptProblem.slice(0, maxAlarmLength) }),
  };
}
