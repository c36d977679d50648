import type { SpiffeId } from '../../shared/identity.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { IssuedCertificate } from './x509/leaf-certificate.js';

/** Certificates, PEM. */
export type MeshTrust = {
  readonly issuingPem: string;
  readonly rootPem: string;
  readonly nextRootPem: string | null;
  readonly previousRootsPem: readonly string[];
};

/** An issuer outside this host, and whether it signs. */
export type IssuerStatus = {
  readonly kind: 'vault' | 'cert-manager';
  /** Where it is, for people. */
  readonly place: string;
  /** Why it does not sign, or soon will not; null: nothing is known to be wrong. */
  readonly problem: string | null;
  /** Since when there is a problem, milliseconds since the epoch; null: there is none. */
  readonly problemSinceMs: number | null;
  /** Whether a file of the operator names its roots; else the root counts that it had at the first start. */
  readonly hasNamedRoots: boolean;
  /** Requests that it has not answered yet. */
  readonly waiting: number;
};

/** Cuts a wait short: the one who asks waits no longer. */
type Waits = { readonly signal?: AbortSignal };

/**
 * What signs every certificate of the mesh: a CA of the controller's own (`MeshCa`), or one elsewhere (`ExternalCa`). It only
 * signs: callers decide who may have which certificate. Names, usages and lifetime are never those of the request.
 */
export interface CertificateIssuer {
  /** Every root to trust now, PEM; the one in use first. During a rotation there are several. */
  readonly rootsPem: string;
  /** SHA-256 of the public key of the root in use. Join tokens pin it. */
  readonly rootHash: string;
  /** SHA-256 of the public key of the root that is prepared; null: none. */
  readonly nextRootHash: string | null;
  /** What signs now, and what else is trusted. During a rotation there is a next root, and then a previous one. */
  readonly trust: MeshTrust;
  /** When the CA that signs leaves expires, milliseconds since the epoch. */
  readonly issuingNotAfterMs: number;
  /** Null: the CA is the controller's own. */
  readonly external: IssuerStatus | null;
  /** Certificates to ask for at the same time; more only wait. */
  readonly parallel: number;
  /** Takes over what has changed, and renews what is due. The owner calls it periodically. */
  refresh(): Promise<void>;
  signWorkload(
    request: { readonly csrPem: string; readonly identity: SpiffeId; readonly node: NodeName } & Waits,
  ): Promise<IssuedCertificate>;
  signNode(request: { readonly csrPem: string; readonly node: NodeName } & Waits): Promise<IssuedCertificate>;
  /** `csrPem`: with exactly these names, see `createServerCsr`. */
  signServer(request: ServerRequest): Promise<IssuedCertificate>;
}

export type ServerRequest = {
  readonly csrPem: string;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly spiffeId?: string;
};
