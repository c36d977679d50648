import { createHash, X509Certificate, type JsonWebKey } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { splitCertificates } from '../../shared/pki/pem.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { SerialQueue } from '../../shared/serial-queue.js';

/** How often others should ask, in seconds. A step of a rotation is seen everywhere well before the next one. */
const refreshHintSeconds = 300;

/** A SPIFFE bundle: a JWK set with the roots of a trust domain (SPIFFE Trust Domain and Bundle, section 4). */
export type BundleDocument = {
  readonly spiffe_sequence: number;
  readonly spiffe_refresh_hint: number;
  readonly keys: readonly BundleKey[];
};

/** `x5c` has exactly one certificate (X.509-SVID, section 6.2). */
type BundleKey = JsonWebKey & { readonly use: 'x509-svid'; readonly x5c: readonly [string] };

const storedSchema = z.object({ digest: z.string(), sequence: z.int().min(1) });
type Stored = z.infer<typeof storedSchema>;

/**
 * The roots of the mesh for other trust domains. The sequence rises with every change of the roots; it is kept in
 * `spiffe-bundle.json`, and counts seconds, so that it also rises when this file is lost or an old one is restored.
 */
export class SpiffeBundle {
  readonly #path: string;
  readonly #rootsPem: () => string;
  readonly #nowMs: () => number;
  readonly #queue = new SerialQueue();
  #stored: Stored | null = null;

  constructor(init: { readonly stateDir: string; readonly rootsPem: () => string; readonly nowMs: () => number }) {
    this.#path = join(init.stateDir, 'spiffe-bundle.json');
    this.#rootsPem = init.rootsPem;
    this.#nowMs = init.nowMs;
  }

  /** Errors: `STATE_WRITE`, `STATE_READ`: a new sequence is on disk before anyone sees it. */
  document(): Promise<BundleDocument> {
    return this.#queue.run(async () => {
      const roots = splitCertificates(this.#rootsPem()).map((pem) => new X509Certificate(pem));
      return {
        spiffe_sequence: await this.#sequenceOf(roots),
        spiffe_refresh_hint: refreshHintSeconds,
        keys: roots.map(bundleKey),
      };
    });
  }

  async #sequenceOf(roots: readonly X509Certificate[]): Promise<number> {
    // Their order says nothing.
    const digest = createHash('sha256').update(
      JSON.stringify(roots.map((root) => root.fingerprint256).toSorted(compare)),
    );
    const wanted = digest.digest('hex');
    const stored = this.#stored ?? (await this.#read());
    if (stored?.digest === wanted) {
      this.#stored = stored;
      return stored.sequence;
    }
    const sequence = Math.max((stored?.sequence ?? 0) + 1, Math.floor(this.#nowMs() / 1000));
    await writePrivateFile(this.#path, `${JSON.stringify({ digest: wanted, sequence })}\n`);
    this.#stored = { digest: wanted, sequence };
    return sequence;
  }

  /** Null: there is none, or it is damaged. */
  async #read(): Promise<Stored | null> {
    const text = await readPrivateFile(this.#path);
    try {
      return storedSchema.parse(JSON.parse(text ?? ''));
    } catch {
      return null;
    }
  }
}

function bundleKey(root: X509Certificate): BundleKey {
  return { ...root.publicKey.export({ format: 'jwk' }), use: 'x509-svid', x5c: [root.raw.toString('base64')] };
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
