/**
 * Counts the RST_STREAMs that a client has sent on one tunnel. nghttp2 on the other side answers a burst of 1000 that
 * refills with 33 a second by GOAWAY INTERNAL_ERROR, its defence against "rapid reset" (CVE-2023-44487), and that costs
 * every stream of the tunnel. Applications that end with RST reach it honestly, so the tunnel is retired well before:
 * what is open on it can add at most one reset for each stream. Source: nghttp2_option_set_stream_reset_rate_limit(3).
 */
export class ResetBudget {
  #spent = 0;
  #countedAtMs: number;
  readonly #nowMs: () => number;

  constructor(options: { readonly nowMs: () => number }) {
    this.#nowMs = options.nowMs;
    this.#countedAtMs = options.nowMs();
  }

  /** Call for every reset that is sent. */
  spend(): void {
    const nowMs = this.#nowMs();
    this.#spent = Math.max(0, this.#spent - ((nowMs - this.#countedAtMs) / 1000) * refillPerSecond) + 1;
    this.#countedAtMs = nowMs;
  }

  /** The tunnel must take no new streams. */
  get isSpent(): boolean {
    return this.#spent >= burst;
  }
}

const burst = 700;
/** Below nghttp2's 33, whose clock is another one and counts whole seconds. */
const refillPerSecond = 25;
