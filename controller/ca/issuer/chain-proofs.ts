import { issuerError } from './issuer-error.js';
import type { VerifiedIssue } from './verify-issued.js';

type Chain = Pick<VerifiedIssue, 'issuersPem' | 'rootPem'>;

/** After a proof that failed, before another one is tried: each asks the issuer for three certificates. */
const againAfterMs = 30_000;
const maxKept = 16;

/**
 * Which chains have been proved to be accepted by OpenSSL for every use in the mesh. A chain that appears for the first time is
 * proved before a certificate under it is handed out; one proof runs at a time.
 */
export class ChainProofs {
  readonly #prove: () => Promise<readonly Chain[]>;
  readonly #nowMs: () => number;
  readonly #proved = new Set<string>();
  #running: Promise<void> | null = null;
  #failed: { readonly chain: string; readonly error: unknown; readonly atMs: number } | null = null;

  /** `prove`: returns the chains of what it had signed. */
  constructor(init: { readonly prove: () => Promise<readonly Chain[]>; readonly nowMs: () => number }) {
    this.#prove = init.prove;
    this.#nowMs = init.nowMs;
  }

  add(chain: Chain): void {
    if (this.#proved.size >= maxKept) this.#proved.clear();
    this.#proved.add(keyOf(chain));
  }

  /** Rejects with why certificates under this chain cannot be used. */
  async assertProved(chain: Chain): Promise<void> {
    const key = keyOf(chain);
    if (this.#proved.has(key)) return;
    const failed = this.#failed;
    const ageMs = failed === null ? 0 : this.#nowMs() - failed.atMs;
    if (failed?.chain === key && ageMs >= 0 && ageMs < againAfterMs) throw failed.error;
    this.#running ??= this.#run(key).finally(() => (this.#running = null));
    await this.#running;
    // The proof had another chain: what was signed before its change is not handed out.
    if (!this.#proved.has(key)) {
      throw issuerError('ISSUER_BUSY', 'the issuer has changed its CA meanwhile', 'agents ask again by themselves');
    }
  }

  async #run(key: string): Promise<void> {
    try {
      for (const chain of await this.#prove()) this.add(chain);
      this.#failed = null;
    } catch (error) {
      this.#failed = { chain: key, error, atMs: this.#nowMs() };
      throw error;
    }
  }
}

function keyOf({ issuersPem, rootPem }: Chain): string {
  return issuersPem + rootPem;
}
