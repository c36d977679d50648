/**
 * Counts the RST_STREAMs that a client sends on one tunnel. nghttp2 at the other end allows a burst of 1000, refilled with
 * 33 a second, and answers more with GOAWAY INTERNAL_ERROR, its defence against "rapid reset" (CVE-2023-44487). That would
 * end every stream of the tunnel. Applications that end with RST can reach it, so the tunnel is retired well before: each
 * open stream adds at most one more reset. Source: nghttp2_option_set_stream_reset_rate_limit(3).
 */
export class ResetBudget {
  #spent = 0;
  #countedAtMs: number;
  readonly #nowMs: () => number;

  constructor(init: { readonly nowMs: () => number }) {
    this.#nowMs = init.nowMs;
    this.#countedAtMs = init.nowMs();
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
/** Below nghttp2's 33, whose clock differs from ours and counts whole seconds. */
const refillPerSecond = 25;
