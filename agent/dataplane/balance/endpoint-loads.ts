import type { Endpoint } from '../../../shared/routing/destination.js';
import { workloadName } from '../../../shared/routing/names.js';

/** For how long an endpoint that could not be reached loses against others. */
const shunnedMs = 10_000;
/** Entries that do not matter any more are dropped when there are this many, and twice as many as were left then. */
const fewestToPrune = 1024;

type Load = { open: number; failedAtMs: number };

/** The place of one connection among those of its endpoint. Its owner ends it once. */
export interface EndpointUse {
  /** The connection is over. `isFailed`: the endpoint could not be reached. */
  end(isFailed: boolean): void;
}

/**
 * How many connections of this worker are open to each endpoint, and which endpoints could not be reached lately. An endpoint
 * that refuses at once has no open connection and would attract all of them, so it counts as the busiest for ten seconds.
 */
export class EndpointLoads {
  readonly #loads = new Map<string, Load>();
  readonly #nowMs: () => number;
  #pruneAt = fewestToPrune;

  /** `nowMs`: a clock that is never set back, in milliseconds. */
  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Number of endpoints of which something is known. */
  get size(): number {
    return this.#loads.size;
  }

  /** Counts a connection to the endpoint. The caller owns what is returned. */
  begin(endpoint: Endpoint): EndpointUse {
    const load = this.#loadOf(endpointKey(endpoint));
    load.open++;
    let isOver = false;
    return {
      end: (isFailed) => {
        if (isOver) return;
        isOver = true;
        load.open--;
        if (isFailed) load.failedAtMs = this.#nowMs();
      },
    };
  }

  /** Whether a connection is better off at `a` than at `b`: neither could not be reached, and fewer are open. */
  isLighter(a: Endpoint, b: Endpoint): boolean {
    const [loadA, loadB] = [this.#loads.get(endpointKey(a)), this.#loads.get(endpointKey(b))];
    const [isShunnedA, isShunnedB] = [this.#isShunned(loadA), this.#isShunned(loadB)];
    if (isShunnedA !== isShunnedB) return isShunnedB;
    return (loadA?.open ?? 0) < (loadB?.open ?? 0);
  }

  #isShunned(load: Load | undefined): boolean {
    return load !== undefined && this.#nowMs() - load.failedAtMs < shunnedMs;
  }

  #loadOf(key: string): Load {
    const present = this.#loads.get(key);
    if (present !== undefined) return present;
    if (this.#loads.size >= this.#pruneAt) this.#prune();
    const load = { open: 0, failedAtMs: Number.NEGATIVE_INFINITY };
    this.#loads.set(key, load);
    return load;
  }

  /** Endpoints come and go: what is not in use is dropped from time to time, which costs little for each connection. */
  #prune(): void {
    for (const [key, load] of this.#loads) if (load.open === 0 && !this.#isShunned(load)) this.#loads.delete(key);
    this.#pruneAt = Math.max(fewestToPrune, 2 * this.#loads.size);
  }
}

/**
 * Tells endpoints apart, also a workload from the one that had its address before. The network namespace tells a pod from the
 * next one that has its name.
 */
export function endpointKey({ address: { ip, port }, workload }: Endpoint): string {
  return workload === null ? `${ip} ${port}` : `${ip} ${port} ${workloadName(workload)} ${workload.netns ?? ''}`;
}
