import { certificateHash, describeCertificate } from '../../../shared/pki/certificate-info.js';
import { endsAtRoot, readCertificateChain } from '../../../shared/pki/certificate-chain.js';
import { splitCertificates } from '../../../shared/pki/pem.js';

/** A chain that a root verifies. */
export type VerifiedChain = {
  readonly rootHash: string;
  /** When all of its certificates, the root included, are valid at the same time: from, and until. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
};

/** Remembers what verifying a chain gave, because each costs a signature for every link, and heartbeats ask often. */
export class VerifiedChains {
  #known = new Map<string, VerifiedChain | null>();
  #rootsPem = '';

  /** Null if none of the roots verifies the chain, or it cannot be read. */
  find(chainPem: string, rootsPem: string): VerifiedChain | null {
    if (rootsPem !== this.#rootsPem) {
      this.#known = new Map();
      this.#rootsPem = rootsPem;
    }
    const known = this.#known.get(chainPem);
    if (known !== undefined) return known;
    const found = verify(chainPem, rootsPem);
    this.#known.set(chainPem, found);
    return found;
  }

  /** Forgets all chains but these. */
  keep(chains: ReadonlySet<string>): void {
    for (const chain of this.#known.keys()) if (!chains.has(chain)) this.#known.delete(chain);
  }
}

function verify(chainPem: string, rootsPem: string): VerifiedChain | null {
  try {
    const chain = readCertificateChain(chainPem);
    if (chain === undefined) return null;
    const root = splitCertificates(rootsPem).find((pem) => endsAtRoot(chain, pem));
    if (root === undefined) return null;
    const lives = [...splitCertificates(chainPem), root].map((pem) => describeCertificate(pem));
    return {
      rootHash: certificateHash(root),
      notBeforeMs: Math.max(...lives.map(({ notBeforeMs }) => notBeforeMs)),
      notAfterMs: Math.min(...lives.map(({ notAfterMs }) => notAfterMs)),
    };
  } catch {
    return null;
  }
}
