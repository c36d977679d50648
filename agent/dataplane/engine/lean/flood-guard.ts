import { ConnectionViolation } from './hpack/connection-violation.js';
import { errorCode } from '../http2-error-code.js';

/**
 * What a peer may do before it counts as an attacker. The limit of resets is nghttp2's, because clients stay below it
 * (`tunnel/reset-budget.ts`). The other limits are far above what an honest peer does.
 */
const limits = {
  /** Streams that the peer opened and reset: "rapid reset", CVE-2023-44487. */
  reset: { burst: 1000, perSecond: 33 },
  /** PING and SETTINGS, each of which must be answered: CVE-2019-9512, CVE-2019-9515. */
  question: { burst: 1000, perSecond: 100 },
  /** Frames that carry nothing: empty DATA or HEADERS without END_STREAM (CVE-2019-9518), PRIORITY, unknown types. */
  emptyFrame: { burst: 1000, perSecond: 100 },
  /** Streams beyond the limit, malformed requests, and everything else that is answered with RST_STREAM. */
  violation: { burst: 100, perSecond: 1 },
} as const;
export type FloodKind = keyof typeof limits;

/** Ends a connection whose peer does too many things that cost us more than the peer. */
export class FloodGuard {
  readonly #buckets: Readonly<Record<FloodKind, TokenBucket>>;

  /** `nowMs` is monotonic. */
  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#buckets = {
      reset: new TokenBucket({ ...limits.reset, nowMs }),
      question: new TokenBucket({ ...limits.question, nowMs }),
      emptyFrame: new TokenBucket({ ...limits.emptyFrame, nowMs }),
      violation: new TokenBucket({ ...limits.violation, nowMs }),
    };
  }

  /** Counts one event. Throws a {@link ConnectionViolation} with ENHANCE_YOUR_CALM if the limit is exceeded. */
  count(kind: FloodKind): void {
    if (this.#buckets[kind].spend()) return;
    throw new ConnectionViolation({ code: errorCode.enhanceYourCalm, detail: `a flood of ${floodNames[kind]}` });
  }
}

const floodNames: Readonly<Record<FloodKind, string>> = {
  reset: 'resets',
  question: 'PINGs or SETTINGS',
  emptyFrame: 'frames without content',
  violation: 'broken or refused streams',
};

/** Counts events that are harmless one by one and an attack in bulk: allows a burst, which refills at a rate. */
class TokenBucket {
  readonly #burst: number;
  readonly #refillPerMs: number;
  readonly #nowMs: () => number;
  #spent = 0;
  #countedAtMs = 0;

  /** `nowMs` is monotonic. */
  constructor(init: { readonly burst: number; readonly perSecond: number; readonly nowMs: () => number }) {
    this.#burst = init.burst;
    this.#refillPerMs = init.perSecond / 1000;
    this.#nowMs = init.nowMs;
  }

  /** Counts one event; returns false if it exceeds the limit. */
  spend(): boolean {
    const nowMs = this.#nowMs();
    this.#spent = Math.max(0, this.#spent - (nowMs - this.#countedAtMs) * this.#refillPerMs) + 1;
    this.#countedAtMs = nowMs;
    return this.#spent <= this.#burst;
  }
}
