import type { LeafKind } from './leaf-profile.js';

/** What an issuer is asked for. The certificate that comes back is verified by the caller. */
export type Wanted = {
  readonly kind: LeafKind;
  readonly csrPem: string;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly ttlMs: number;
};

/** One that signs outside this host: an adapter for its API, which trusts nothing that comes back. */
export interface ExternalIssuer {
  readonly kind: 'vault' | 'cert-manager';
  /** For people. */
  readonly place: string;
  /**
   * The certificate, PEM, followed by others in any order that may lead to its root. Rejects with a code of `IssuerCode`, and
   * `CSR_INVALID` for a request that it would sign with other names.
   */
  sign(wanted: Wanted, signal: AbortSignal): Promise<string>;
  /** Renews what is due, and clears away what was left. Rejects with what will keep it from signing. Call it every minute. */
  maintain(signal: AbortSignal): Promise<void>;
  /** The certificates of the CA that signs now, PEM, in any order; null: it cannot be asked for them. */
  authorities(signal: AbortSignal): Promise<string | null>;
  close(): void;
}
