import { performance, type EventLoopUtilization } from 'node:perf_hooks';
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const pollMs = 5000;
/** A thread that worked for less than this part of the time since the last look is at rest. */
const quietUtilization = 0.25;
/** Below it there is little to be gained: both halves of a young generation that has grown once or twice. */
const wantedYoungBytes = 4 * 1024 * 1024;
/** To walk a larger heap takes too long, and next to it the young generation is small. */
const largestHeapBytes = 64 * 1024 * 1024;
const firstGapMs = 5000;
const longestGapMs = 600_000;

export type ThreadLook = {
  /** Part of the time since the last look that the event loop worked. */
  readonly utilization: number;
  /** What the young generation occupies, whether it is used or not. */
  readonly youngBytes: number;
  /** What the whole heap uses. */
  readonly usedBytes: number;
};

/**
 * Gives memory of this thread back that its start, or a burst of work, made V8 take. V8 lets the young generation grow to
 * 32 MiB while much is kept, and looks at it again only in a full collection, which a thread at rest does not come to for
 * hours. So a thread at rest whose young generation is large gets one, with growing gaps between; it takes 10 to 60 ms.
 */
export class IdleHeapTrimmer {
  readonly #mayPause: () => boolean;
  readonly #lookAtThread: () => ThreadLook;
  readonly #collect: () => void;
  readonly #nowMs: () => number;
  readonly #timer: NodeJS.Timeout;
  #gapMs = firstGapMs;
  #nextAtMs = 0;

  /** `mayPause`: nothing would be kept waiting. The others are this thread's own unless told. */
  constructor(init: {
    readonly mayPause: () => boolean;
    readonly lookAtThread?: () => ThreadLook;
    readonly collect?: () => void;
    readonly nowMs?: () => number;
  }) {
    this.#mayPause = init.mayPause;
    this.#lookAtThread = init.lookAtThread ?? looksAtThread();
    this.#collect = init.collect ?? collectAll;
    this.#nowMs = init.nowMs ?? (() => performance.now());
    this.#timer = setInterval(() => this.poll(), pollMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** What the timer calls. */
  poll(): void {
    const { utilization, youngBytes, usedBytes } = this.#lookAtThread();
    const nowMs = this.#nowMs();
    if (nowMs < this.#nextAtMs || utilization > quietUtilization || !this.#mayPause()) return;
    if (youngBytes <= wantedYoungBytes || usedBytes > largestHeapBytes) return;
    this.#nextAtMs = nowMs + this.#gapMs;
    this.#gapMs = Math.min(2 * this.#gapMs, longestGapMs);
    this.#collect();
  }
}

function looksAtThread(): () => ThreadLook {
  let before: EventLoopUtilization = performance.eventLoopUtilization();
  return () => {
    const { utilization } = performance.eventLoopUtilization(before);
    before = performance.eventLoopUtilization();
    const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
    return { utilization, youngBytes: young?.space_size ?? 0, usedBytes: getHeapStatistics().used_heap_size };
  };
}

/** Node has no other door to it than V8's flag, which counts for contexts that are made after it. */
function collectAll(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  collect();
}
