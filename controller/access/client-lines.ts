import { sourceOf } from '../../shared/source-of.js';
import { RateLimiter } from './rate-limiter.js';

const ofSource = { burst: 50, perSecond: 0.5 };
const ofAll = { burst: 500, perSecond: 5 };

/**
 * Bounds the warnings about clients in the log, for each source and for all. Who asks again and again must not fill the disk.
 * What is beyond it belongs at the level debug, and is counted where it was counted before.
 */
export class ClientLines {
  readonly #ofSource = new RateLimiter(ofSource);
  readonly #ofAll = new RateLimiter(ofAll);

  /** Whether one more about this address is shown, at `nowMs` of a clock of the caller's choice. */
  take(address: string, nowMs: number): boolean {
    return this.#ofSource.take(sourceOf(address), nowMs) && this.#ofAll.take('', nowMs);
  }
}
