import type { ConnectionRate } from '../../../shared/policy/traffic-documents.js';
import type { PlannedLimit } from '../../../shared/routing/rate-limits.js';
import type { DestinationUsage, LimitedConnection, LimitReached } from '../destination-usage.js';
import type { LimitHit } from '../report/closed-connection.js';
import type { Metered } from './throttle.js';
import { bucketOf, byteBucketOf, type Bucket } from './token-bucket.js';

/** What a connection has of the limits that are for it. `hits`: of mode audit, that would have refused it. */
export type LimitedPlaces = {
  readonly places: readonly LimitedConnection[];
  readonly hits: readonly LimitHit[];
  /** Budgets of the bytes of each side; null: there are none. Their places are among `places`. */
  readonly bytes: { readonly source: readonly Metered[]; readonly destination: readonly Metered[] } | null;
};
/** One of them refuses it, and nothing is taken. `hits`: that one's, and those of mode audit. `detail`: for people. */
export type LimitRefusal = { readonly hits: readonly LimitHit[]; readonly detail: string };

/** Of the bytes of each side. */
type Meters = { readonly source: Metered; readonly destination: Metered };

/** By document: each connection asks. */
const buckets = new WeakMap<ConnectionRate, Bucket>();

/** Bounds connections by RateLimits, over all workers of the agent. */
export class RateLimiter {
  readonly #usage: Pick<DestinationUsage, 'takeLimited' | 'takeMeter'>;

  /** Owns nothing of `usage`. */
  constructor({ usage }: { readonly usage: Pick<DestinationUsage, 'takeLimited' | 'takeMeter'> }) {
    this.#usage = usage;
  }

  /**
   * Takes a place of each limit for a connection that is about to be opened, or of none. The caller owns the places. One of mode
   * audit that would have refused it has no place for it, so it counts what it would have let pass, as if it were enforced.
   */
  enter(limits: readonly PlannedLimit[]): LimitedPlaces | LimitRefusal {
    const places: LimitedConnection[] = [];
    const hits: LimitHit[] = [];
    let bytes: { source: Metered[]; destination: Metered[] } | null = null;
    let refusal: string | null = null;
    for (const limit of limits) {
      const { max, rate, mode } = limit.document;
      // Those of mode audit tell what they would have refused, whatever comes before them.
      if (refusal !== null && mode === 'enforce') continue;
      const taken = this.#usage.takeLimited(limit, { max, bucket: rate === undefined ? null : bucketFor(rate) });
      if (typeof taken !== 'string') places.push(taken);
      const metered = typeof taken === 'string' ? taken : this.#metersOf(limit);
      if (metered === null) continue;
      if (typeof metered !== 'string') {
        places.push(metered.source.meter, metered.destination.meter);
        bytes ??= { source: [], destination: [] };
        bytes.source.push(metered.source);
        bytes.destination.push(metered.destination);
        continue;
      }
      hits.push({ limit: limit.name, bound: boundOf[metered], mode });
      if (mode === 'enforce') refusal = detailOf(limit, metered);
    }
    if (refusal === null) return { places, hits, bytes };
    for (const place of places) place.giveBack();
    return { hits, detail: refusal };
  }

  /** Its budgets of the bytes of each side; null: it has none. */
  #metersOf({ document, name, key, client }: PlannedLimit): Meters | LimitReached | null {
    const { bytesPerSecond, mode } = document;
    if (bytesPerSecond === undefined) return null;
    const hit = { limit: name, bound: 'bytesPerSecond', mode } as const;
    const bucket = byteBucketOf(bytesPerSecond);
    // Open connections keep the rate that they have, and those of a slower one would make all others wait as long.
    const of = `${key} at ${bytesPerSecond}`;
    const source = this.#usage.takeMeter({ key: `${of} sent`, client }, bucket);
    if (typeof source === 'string') return source;
    const destination = this.#usage.takeMeter({ key: `${of} received`, client }, bucket);
    if (typeof destination !== 'string')
      return { source: { meter: source, hit }, destination: { meter: destination, hit } };
    source.leave();
    return destination;
  }
}

function bucketFor(rate: ConnectionRate): Bucket {
  const known = buckets.get(rate) ?? bucketOf(rate);
  buckets.set(rate, known);
  return known;
}

/** The field of the document that says it. */
const boundOf = {
  rate: 'connectionsPerSecond',
  connections: 'maxConnections',
  slots: 'slots',
  share: 'slots',
} as const satisfies Record<LimitReached, LimitHit['bound']>;

function detailOf({ document, name, of, client }: PlannedLimit, reached: LimitReached): string {
  const { rate, max } = document;
  if (reached === 'rate') {
    return `${rate?.perSecond} new connections a second ${of}, burst ${rate?.burst} (connectionsPerSecond of ${name})`;
  }
  if (reached === 'connections') return `${max} connections ${of} are open (maxConnections of ${name})`;
  if (reached === 'share') return `${client} uses as many limits as one client may (${name})`;
  return `as many limits are in use as the agent can count (${name})`;
}
