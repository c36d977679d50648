import type { ConnectionLimits } from '../../../shared/policy/traffic-documents.js';
import type { DestinationUsage } from '../destination-usage.js';
import type { CountedDestination } from '../report/counted-destination.js';

/** The place of one connection among those of its destination. Its owner leaves it once. */
export interface DestinationPlace {
  /** The far side is connected: it does not wait any more. */
  connected(): void;
  /** The connection is over. */
  leave(): void;
}

/** Bounds connections to destinations, over all workers of the agent. */
export class DestinationLimits {
  readonly #usage: Pick<DestinationUsage, 'take'>;

  /** Owns nothing of `usage`. */
  constructor({ usage }: { readonly usage: Pick<DestinationUsage, 'take'> }) {
    this.#usage = usage;
  }

  /**
   * A place for a connection that is about to be opened, or the limit that leaves none, for the record. Workers that ask at the
   * same instant never exceed the limit, and get all of its places. `client`: its service account. Null: there is no limit to
   * count for.
   */
  enter(
    { key, of, rule }: CountedDestination,
    { max, maxPending }: ConnectionLimits,
    client: string,
  ): DestinationPlace | string | null {
    if (max === undefined && maxPending === undefined) return null;
    const counted = { key, client };
    const pending = this.#usage.take(counted, 'pending', maxPending);
    if (pending === null) {
      return `${maxPending} connections to ${of} are being opened, the limit (maxPendingConnections of DestinationRule ${rule})`;
    }
    const open = this.#usage.take(counted, 'open', max);
    if (open === null) {
      pending.leave();
      return `${max} connections to ${of} are open, the limit (maxConnections of DestinationRule ${rule})`;
    }
    const connected = (): void => pending.leave();
    const leave = (): void => {
      open.leave();
      pending.leave();
    };
    return { connected, leave };
  }
}
