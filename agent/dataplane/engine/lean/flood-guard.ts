import { ConnectionViolation } from './hpack/connection-violation.js';
import { errorCode } from '../http2-error-code.js';
import { TokenBucket } from './token-bucket.js';

/**
 * What a peer may do before it counts as an attack. Resets as nghttp2 has them, because clients stay below that
 * (`tunnel/reset-budget.ts`); the rest is far above what an honest peer does.
 */
const limits = {
  /** Streams that the peer opened and reset: "rapid reset", CVE-2023-44487. */
  reset: { burst: 1000, perSecond: 33 },
  /** PING and SETTINGS, each of which must be answered: CVE-2019-9512, CVE-2019-9515. */
  question: { burst: 1000, perSecond: 100 },
  /** Frames that carry nothing: empty DATA or HEADERS without an end (CVE-2019-9518), PRIORITY, unknown types. */
  emptyFrame: { burst: 1000, perSecond: 100 },
  /** Streams beyond the limit, malformed requests, and whatever else was answered with RST_STREAM. */
  violation: { burst: 100, perSecond: 1 },
} as const;
export type FloodKind = keyof typeof limits;

/** Ends a connection whose peer does too much of what costs us more than it. */
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

  /** Throws a {@link ConnectionViolation} with ENHANCE_YOUR_CALM when it is one too many. */
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
