import type { ConnectionRate } from '../../../shared/policy/traffic-documents.js';
import type { PlannedLimit } from '../../../shared/routing/rate-limits.js';
import type { DestinationUsage, LimitedConnection, LimitReached } from '../destination-usage.js';
import type { LimitHit } from '../report/closed-connection.js';
import { bucketOf, type Bucket } from './token-bucket.js';

/** What a connection has of the limits that are for it. `hits`: of mode audit, that would have refused it. */
export type LimitedPlaces = { readonly places: readonly LimitedConnection[]; readonly hits: readonly LimitHit[] };
/** One of them refuses it, and nothing is taken. `detail`: for people. */
export type LimitRefusal = { readonly hit: LimitHit; readonly detail: string };

/** By document: each connection asks. */
const buckets = new WeakMap<ConnectionRate, Bucket>();

/** Bounds connections by RateLimits, over all workers of the agent. */
export class RateLimiter {
  readonly #usage: Pick<DestinationUsage, 'takeLimited'>;

  /** Owns nothing of `usage`. */
  constructor({ usage }: { readonly usage: Pick<DestinationUsage, 'takeLimited'> }) {
    this.#usage = usage;
  }

  /**
   * Takes a place of each limit for a connection that is about to be opened, or of none. The caller owns the places. One of mode
   * audit that would have refused it has no place for it, so it counts what it would have let pass, as if it were enforced.
   */
  enter(limits: readonly PlannedLimit[]): LimitedPlaces | LimitRefusal {
    const places: LimitedConnection[] = [];
    const hits: LimitHit[] = [];
    for (const limit of limits) {
      const { max, rate, mode } = limit.document;
      const taken = this.#usage.takeLimited(limit.key, { max, bucket: rate === undefined ? null : bucketFor(rate) });
      if (typeof taken !== 'string') {
        places.push(taken);
        continue;
      }
      const hit = { limit: limit.name, bound: boundOf[taken], mode };
      if (mode === 'enforce') {
        for (const place of places) place.giveBack();
        return { hit, detail: detailOf(limit, taken) };
      }
      hits.push(hit);
    }
    return { places, hits };
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
} as const satisfies Record<LimitReached, LimitHit['bound']>;

function detailOf({ document, name, of }: PlannedLimit, reached: LimitReached): string {
  const { rate, max } = document;
  if (reached === 'rate') {
    return `${rate?.perSecond} new connections a second ${of}, burst ${rate?.burst} (connectionsPerSecond of ${name})`;
  }
  if (reached === 'connections') return `${max} connections ${of} are open (maxConnections of ${name})`;
  return `as many limits are in use as the agent can count (${name})`;
}
