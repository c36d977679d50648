import type { IssuerStatus } from '../ca/certificate-issuer.js';
import type { IssuerAnswer } from './api-types.js';

/** What users are shown of an issuer. */
export function issuerAnswer(issuer: IssuerStatus | null): IssuerAnswer | null {
  if (issuer === null) return null;
  const { kind, place, hasNamedRoots, problem, problemSinceMs } = issuer;
  return {
    kind,
    place,
    hasNamedRoots,
    problem,
    problemSince: problemSinceMs === null ? null : new Date(problemSinceMs).toISOString(),
  };
}
