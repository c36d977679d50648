import type { SpiffeId } from '../../../shared/identity.js';
import type { Log } from '../../../shared/log.js';
import { rootHashes } from '../../../shared/pki/root-hash.js';
import { maxRoots, type TrustHint, type TrustReport } from '../../../shared/wire/trust-hint.js';
import type { Scheduler } from '../../thread/scheduler.js';
import type { CertificateRotator } from './certificate-rotator.js';
import type { CredentialsRotator } from './credentials-rotator.js';
import type { NodeCredentials } from './node-credentials.js';
import { VerifiedChains, type VerifiedChain } from './verified-chains.js';

/** The agents of a mesh spread their renewals over this time after its roots have changed. */
const renewWithinMs = 5000;
/** A hint is not signed, so one that is never met, or keeps changing, must not keep the controller busy. */
const minIntervalMs = 15_000;
const maxIntervalMs = 600_000;

/**
 * Which roots this host trusts, and which ones its own certificates end at. When the controller hints at others, the node's
 * credentials, or the certificates under another root, are renewed early, and the signed answers bring the roots. So each
 * step of a rotation reaches a running agent in seconds. `close` ends it.
 */
export class TrustKeeper {
  readonly #init: TrustKeeperInit;
  readonly #verified = new VerifiedChains();
  #hint: TrustHint | null = null;
  #renewedAtMs = Number.NEGATIVE_INFINITY;
  /** How often in a row certificates were renewed for a hint and did not meet it. */
  #attempts = 0;
  #cancelTimer: (() => void) | null = null;

  constructor(init: TrustKeeperInit) {
    this.#init = init;
  }

  /** For the heartbeat. A certificate that none of the roots verifies adds nothing. */
  report(): TrustReport {
    const { rootsPem, nodeCertificatePem } = this.#current();
    const chains = [nodeCertificatePem, ...this.#init.certificates.certificates.map(({ chainPem }) => chainPem)];
    this.#verified.keep(new Set(chains));
    const proves = new Set(chains.flatMap((chain) => this.#rootOf(chain) ?? []));
    return { trusts: rootHashes(rootsPem).slice(0, maxRoots), proves: [...proves].slice(0, maxRoots) };
  }

  /** What the roots that are trusted here say of a chain; null: none verifies it. */
  verified(chainPem: string): VerifiedChain | null {
    return this.#verified.find(chainPem, this.#current().rootsPem);
  }

  onHint(hint: TrustHint): void {
    this.#hint = hint;
    this.#check();
  }

  close(): void {
    this.#cancelTimer?.();
    this.#hint = null;
  }

  #check(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    const hint = this.#hint;
    if (hint === null) return;
    const due = this.#due(hint);
    if (!due.isNodeDue && due.identities.length === 0) {
      this.#attempts = 0;
      return;
    }
    const { scheduler, credentials, certificates, log } = this.#init;
    const intervalMs = Math.min(maxIntervalMs, minIntervalMs * 2 ** Math.max(0, this.#attempts - 1));
    const waitMs = this.#renewedAtMs + intervalMs - scheduler.nowMs();
    if (waitMs > 0 && waitMs <= intervalMs) {
      this.#cancelTimer = scheduler.after(waitMs, () => this.#check());
      return;
    }
    this.#renewedAtMs = scheduler.nowMs();
    this.#attempts += 1;
    log.info(
      { roots: hint.roots, signsUnder: hint.signsUnder, identities: due.identities.length },
      'the roots of the mesh have changed: renewing early',
    );
    if (due.isNodeDue) credentials.renewSoon(renewWithinMs);
    certificates.renewSoon(due.identities, renewWithinMs);
    // The answers may have been made just before the change.
    this.#cancelTimer = scheduler.after(minIntervalMs, () => this.#check());
  }

  #due({ roots, signsUnder }: TrustHint): { isNodeDue: boolean; identities: readonly SpiffeId[] } {
    const { rootsPem, nodeCertificatePem } = this.#current();
    const held = rootHashes(rootsPem);
    const hasSameRoots = held.length === new Set(roots).size && held.every((hash) => roots.includes(hash));
    const nodeRoot = this.#rootOf(nodeCertificatePem);
    const identities = this.#init.certificates.certificates
      .filter(({ chainPem }) => this.#rootOf(chainPem) !== signsUnder)
      .map(({ identity }) => identity);
    return { isNodeDue: !hasSameRoots || nodeRoot !== signsUnder, identities };
  }

  #current(): NodeCredentials {
    return this.#init.credentials.current;
  }

  #rootOf(chainPem: string): string | null {
    return this.verified(chainPem)?.rootHash ?? null;
  }
}

export type TrustKeeperInit = {
  readonly credentials: Pick<CredentialsRotator, 'current' | 'renewSoon'>;
  readonly certificates: Pick<CertificateRotator, 'certificates' | 'renewSoon'>;
  readonly scheduler: Scheduler;
  readonly log: Log;
};
