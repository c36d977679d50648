import type { Locality, WorkloadEntry } from './registry-entry.js';

/** Each connection asks for that of its client. */
const ofNodes = new WeakMap<WorkloadEntry, Locality>();

/** Where a workload runs: on its node, and in the zone that is known of it. Null: no node has it, so it is near to nothing. */
export function localityOf(workload: WorkloadEntry): Locality | null {
  const { locality, node } = workload;
  if (locality !== undefined) return locality;
  if (node === null) return null;
  const known = ofNodes.get(workload) ?? { host: node };
  ofNodes.set(workload, known);
  return known;
}
