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
  /**
   * The same, by the endpoint that a connection goes to, and by the place in a list of those that it may go to: the text of a key
   * takes longer than the rest, and a map of many longer than a list.
   */
  #byEndpoint = new WeakMap<Endpoint, Load>();
  #byList = new WeakMap<readonly Endpoint[], Load[]>();
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
    const load = this.#loadOf(endpoint);
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

  /**
   * Whether a connection is better off at one endpoint of a list than at another, given by their places: neither could not be
   * reached, and fewer are open.
   */
  isLighter(endpoints: readonly Endpoint[], a: number, b: number): boolean {
    const known = this.#byList.get(endpoints) ?? this.#listed(endpoints);
    const [loadA, loadB] = [known[a] ?? this.#loadAt(endpoints, a), known[b] ?? this.#loadAt(endpoints, b)];
    if (loadA === undefined || loadB === undefined) return false;
    const isShunnedB = this.#isShunned(loadB);
    return this.#isShunned(loadA) === isShunnedB ? loadA.open < loadB.open : isShunnedB;
  }

  #isShunned({ failedAtMs }: Load): boolean {
    return failedAtMs !== Number.NEGATIVE_INFINITY && this.#nowMs() - failedAtMs < shunnedMs;
  }

  #listed(endpoints: readonly Endpoint[]): Load[] {
    const loads: Load[] = [];
    this.#byList.set(endpoints, loads);
    return loads;
  }

  #loadAt(endpoints: readonly Endpoint[], at: number): Load | undefined {
    const endpoint = endpoints[at];
    if (endpoint === undefined) return undefined;
    const load = this.#loadOf(endpoint);
    // Another one after {@link #prune}.
    const loads = this.#byList.get(endpoints) ?? this.#listed(endpoints);
    loads[at] = load;
    return load;
  }

  #loadOf(endpoint: Endpoint): Load {
    const known = this.#byEndpoint.get(endpoint);
    if (known !== undefined) return known;
    const key = endpointKey(endpoint);
    let load = this.#loads.get(key);
    if (load === undefined) {
      if (this.#loads.size >= this.#pruneAt) this.#prune();
      load = { open: 0, failedAtMs: Number.NEGATIVE_INFINITY };
      this.#loads.set(key, load);
    }
    this.#byEndpoint.set(endpoint, load);
    return load;
  }

  /** Endpoints come and go: what is not in use is dropped from time to time, which costs little for each connection. */
  #prune(): void {
    for (const [key, load] of this.#loads) if (load.open === 0 && !this.#isShunned(load)) this.#loads.delete(key);
    // What was dropped is counted again under the same name.
    this.#byEndpoint = new WeakMap();
    this.#byList = new WeakMap();
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
