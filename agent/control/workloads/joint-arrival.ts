import type { IpAddress } from '../../../shared/address.js';
import type { WorkloadName } from '../../../shared/routing/names.js';
import type { Held } from './held-workload.js';

type Arriving = Pick<Held, 'name' | 'sinceMs'>;

/** How long a new workload waits for others that come with it, so that they are captured together. */
const togetherMs = 2000;
/** What comes within this time of another comes with it: two files of one apply do. */
const sameTimeMs = 500;

/**
 * What new workloads wait for although they could be captured now: another one that came at the same time and is not ready.
 * Captured one by one, the one that is not captured yet would send in plaintext to one that is, whose rules refuse it. One
 * that came earlier and is not ready yet does not hold up later ones. Null: there is nothing to wait for, or no longer.
 */
export function awaitedBy(o: {
  readonly ready: readonly Arriving[];
  /** New ones whose namespaces are there, and that are not ready. */
  readonly coming: readonly Arriving[];
  readonly nowMs: number;
}): { readonly name: WorkloadName; readonly forMs: number } | null {
  const cameWith = (one: Arriving): boolean =>
    o.ready.some(({ sinceMs }) => Math.abs(one.sinceMs - sinceMs) <= sameTimeMs);
  const awaited = o.coming.find(cameWith);
  const forMs = Math.min(...o.ready.map(({ sinceMs }) => sinceMs + togetherMs - o.nowMs));
  return awaited === undefined || forMs <= 0 ? null : { name: awaited.name, forMs };
}

/** There is a rule for each. Beyond that, connections from the others may be refused for a moment. */
const maxOpenSources = 256;

/**
 * From where a new workload takes connections uncaptured while others arrive with it: from those of them that have no
 * rules yet. All others find it captured from its first load on.
 */
export function sourcesLeftOpen(
  name: WorkloadName,
  arriving: readonly { readonly held: Pick<Held, 'name' | 'hasRules'>; readonly addresses: readonly IpAddress[] }[],
): readonly IpAddress[] {
  const sending = arriving.filter(({ held }) => held.name !== name && !held.hasRules);
  return sending.flatMap(({ addresses }) => addresses).slice(0, maxOpenSources);
}
