import type { ReportedFlow } from '../../../shared/wire/flows.js';
import { workloadNamed } from '../routing/names.js';

/** One allowed connection from shop/web to data/db, as its agent reports it. `seenMs`: its only moment. */
export function reportedFlow(seenMs: number, part: Partial<ReportedFlow> = {}): ReportedFlow {
  return {
    direction: 'outbound',
    source: { workload: workloadNamed('shop/web'), identity: null, cidr: null },
    destination: { workload: workloadNamed('data/db'), identity: null, cidr: null },
    port: 5432,
    verdict: 'allow',
    reason: 'OK',
    rule: '',
    audited: [],
    revision: 1,
    connections: 1,
    bytesSent: 10,
    bytesReceived: 20,
    firstSeenMs: seenMs,
    lastSeenMs: seenMs,
    ...part,
  };
}
