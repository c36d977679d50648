import { performance, type EventLoopUtilization } from 'node:perf_hooks';
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const pollMs = 5000;
/** A thread that was busy for less than this share of the time since the last poll is idle. */
const quietUtilization = 0.25;
/** Below this little can be gained: it is both halves of a young generation that has grown once or twice. */
const wantedYoungBytes = 4 * 1024 * 1024;
/** Collecting a larger heap takes too long, and next to it the young generation is small. */
const largestHeapBytes = 64 * 1024 * 1024;
const firstGapMs = 5000;
const longestGapMs = 600_000;

export type ThreadSample = {
  /** Share of the time since the last poll that the event loop was busy. */
  readonly utilization: number;
  /** What the young generation occupies, used or not. */
  readonly youngBytes: number;
  /** What the whole heap uses. */
  readonly usedBytes: number;
};

/**
 * Returns memory that this thread's start, or a burst of work, made V8 take. V8 lets the young generation grow to 32
 * MiB while much survives, and shrinks it only in a full collection, which an idle thread may not reach for hours. So
 * an idle thread with a large young generation gets a full collection, with growing gaps in between. One takes 10 to 60
 * ms.
 */
export class IdleHeapTrimmer {
  readonly #mayPause: () => boolean;
  readonly #sampleThread: () => ThreadSample;
  readonly #collect: () => void;
  readonly #nowMs: () => number;
  readonly #timer: NodeJS.Timeout;
  #gapMs = firstGapMs;
  #nextAtMs = 0;

  /** `mayPause`: a pause would delay nothing. The other members default to this thread's own. */
  constructor(init: {
    readonly mayPause: () => boolean;
    readonly sampleThread?: () => ThreadSample;
    readonly collect?: () => void;
    readonly nowMs?: () => number;
  }) {
    this.#mayPause = init.mayPause;
    this.#sampleThread = init.sampleThread ?? threadSampler();
    this.#collect = init.collect ?? collectAll;
    this.#nowMs = init.nowMs ?? (() => performance.now());
    this.#timer = setInterval(() => this.poll(), pollMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Called by the timer. */
  poll(): void {
    const { utilization, youngBytes, usedBytes } = this.#sampleThread();
    const nowMs = this.#nowMs();
    if (nowMs < this.#nextAtMs || utilization > quietUtilization || !this.#mayPause()) return;
    if (youngBytes <= wantedYoungBytes || usedBytes > largestHeapBytes) return;
    this.#nextAtMs = nowMs + this.#gapMs;
    this.#gapMs = Math.min(2 * this.#gapMs, longestGapMs);
    this.#collect();
  }
}

function threadSampler(): () => ThreadSample {
  let before: EventLoopUtilization = performance.eventLoopUtilization();
  return () => {
    const { utilization } = performance.eventLoopUtilization(before);
    before = performance.eventLoopUtilization();
    const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
    return { utilization, youngBytes: young?.space_size ?? 0, usedBytes: getHeapStatistics().used_heap_size };
  };
}

/** A thread that finds another one in its way this often waits for the next gap. */
const maxAttempts = 5;

/**
 * Node offers no other way than V8's flag, which applies to contexts that are created while it is set. It is one flag for
 * all threads: another one may take it back before this one has made its context, which then has no `gc`.
 */
function collectAll(): void {
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('globalThis.gc') as (() => void) | undefined;
    setFlagsFromString('--no-expose-gc');
    if (collect === undefined) continue;
    collect();
    return;
  }
}
