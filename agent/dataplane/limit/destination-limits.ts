import type { ConnectionLimits } from '../../../shared/policy/snapshot.js';
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
  readonly #usage: Pick<DestinationUsage, 'add'>;

  /** Owns nothing of `usage`. */
  constructor({ usage }: { readonly usage: Pick<DestinationUsage, 'add'> }) {
    this.#usage = usage;
  }

  /**
   * A place for a connection that is about to be opened, or the limit that leaves none, for the record. It is counted before it
   * is compared, so workers that ask at the same instant never exceed the limit. Null: there is no limit to count for.
   */
  enter(
    { key, of, rule }: CountedDestination,
    { max, maxPending }: ConnectionLimits,
  ): DestinationPlace | string | null {
    if (max === undefined && maxPending === undefined) return null;
    const usage = this.#usage;
    const pending = usage.add(key, 'pending', 1);
    if (pending > (maxPending ?? Number.POSITIVE_INFINITY)) {
      usage.add(key, 'pending', -1);
      return `${maxPending} connections to ${of} are being opened, the limit (maxPendingConnections of DestinationRule ${rule})`;
    }
    if (usage.add(key, 'open', 1) > (max ?? Number.POSITIVE_INFINITY)) {
      usage.add(key, 'open', -1);
      usage.add(key, 'pending', -1);
      return `${max} connections to ${of} are open, the limit (maxConnections of DestinationRule ${rule})`;
    }
    let [isPending, isOver] = [true, false];
    const connected = (): void => {
      if (isPending) usage.add(key, 'pending', -1);
      isPending = false;
    };
    const leave = (): void => {
      if (isOver) return;
      isOver = true;
      connected();
      usage.add(key, 'open', -1);
    };
    return { connected, leave };
  }
}
