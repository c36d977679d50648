import { createPrivateKey, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { CulvertError } from '../../shared/errors.js';
import { endsAtRoot, readCertificateChain } from '../../shared/pki/certificate-chain.js';
import { describeCertificate } from '../../shared/pki/certificate-info.js';
import { splitCertificates } from '../../shared/pki/pem.js';
import type { CaFiles, ServerFile } from './ca-files.js';
import type { CertificateIssuer, ServerRequest } from './certificate-issuer.js';
import { namesOfCertificate, sameNames, wantedNames } from './leaf-names.js';
import { createServerCsr } from './x509/mesh-certificates.js';

/** A server's key and certificate chain, PEM. */
export type ServerKeyPair = { readonly chainPem: string; readonly privateKeyPem: string };

type ServerNames = Omit<ServerRequest, 'csrPem'>;

type IssuedKeyPair = ServerKeyPair & { readonly issuedAtMs: number; readonly notAfterMs: number };

/** Where a certificate waits for the next start, which may find the issuer down. */
export type ServerStore = { readonly files: CaFiles; readonly name: ServerFile };

type Init = {
  readonly ca: CertificateIssuer;
  /** DNS names and IP addresses. */
  readonly names: readonly string[];
  /** A name for other trust domains; absent: none. */
  readonly spiffeId?: string;
  /** Absent: the key is held in memory only. Used where an issuer elsewhere signs. */
  readonly store?: ServerStore;
  readonly nowMs: () => number;
};

const clockToleranceMs = 60_000;

/**
 * The certificate of one of the controller's servers (HTTPS, NATS), renewed at half of its lifetime, and when another root has
 * come into use. The key is new for every certificate.
 */
export class ServerCertificate {
  readonly #init: Init;
  readonly #names: ServerNames;
  #current: IssuedKeyPair;

  private constructor(init: Init, names: ServerNames, current: IssuedKeyPair) {
    this.#init = init;
    this.#names = names;
    this.#current = current;
  }

  /** Takes what an earlier start left, if it still fits, else asks the CA. Rejects with the CA's error, and `STATE_WRITE`. */
  static async issue(init: Init): Promise<ServerCertificate> {
    const { ca, names: all, spiffeId, nowMs } = init;
    const names: ServerNames = {
      dnsNames: all.filter((name) => isIP(name) === 0),
      ipAddresses: all.filter((name) => isIP(name) !== 0),
      ...(spiffeId === undefined ? {} : { spiffeId }),
    };
    const store = ca.external === null ? undefined : init.store;
    const kept = await readKept(store, { names, rootPem: ca.trust.rootPem, nowMs: nowMs() });
    const self = new ServerCertificate(init, names, kept ?? (await issueFor(ca, names, nowMs())));
    if (kept === null) await self.#keep();
    return self;
  }

  get current(): ServerKeyPair {
    return this.#current;
  }

  /** Returns true when it has made a new certificate. The owner calls it periodically. */
  async renewIfDue(): Promise<boolean> {
    const { issuedAtMs, notAfterMs, chainPem } = this.#current;
    const { ca, nowMs } = this.#init;
    const now = nowMs();
    // After the clock was set back, the certificate would stay "not yet valid" until the clock catches up.
    const isFromTheFuture = now < issuedAtMs - clockToleranceMs;
    const isUnderOther = ca.external !== null && !endsAt(chainPem, ca.trust.rootPem);
    const isDue = isFromTheFuture || isUnderOther || now >= issuedAtMs + (notAfterMs - issuedAtMs) / 2;
    if (!isDue) return false;
    this.#current = await issueFor(ca, this.#names, now);
    await this.#keep();
    return true;
  }

  async #keep(): Promise<void> {
    const { ca, store } = this.#init;
    if (store === undefined || ca.external === null) return;
    await store.files.writeServer(store.name, this.#current.chainPem + this.#current.privateKeyPem);
  }
}

async function issueFor(ca: CertificateIssuer, names: ServerNames, issuedAtMs: number): Promise<IssuedKeyPair> {
  const { csrPem, privateKeyPem } = await createServerCsr(names);
  const { chainPem } = await ca.signServer({ csrPem, ...names });
  const { notAfterMs } = describeCertificate(chainPem);
  return { chainPem, privateKeyPem, issuedAtMs, notAfterMs };
}

/** Null: there is none that can be used; a new one is asked for. */
async function readKept(
  store: ServerStore | undefined,
  wanted: { readonly names: ServerNames; readonly rootPem: string; readonly nowMs: number },
): Promise<IssuedKeyPair | null> {
  const text = await store?.files.readServer(store.name);
  if (text === undefined) return null;
  try {
    const chainPem = splitCertificates(text).join('');
    const privateKeyPem = /-----BEGIN PRIVATE KEY-----[\s\S]+?-----END PRIVATE KEY-----\n?/.exec(text)?.[0] ?? '';
    const leaf = new X509Certificate(chainPem);
    const [issuedAtMs, notAfterMs] = [Date.parse(leaf.validFrom), Date.parse(leaf.validTo)];
    const { names, rootPem, nowMs } = wanted;
    const uris = names.spiffeId === undefined ? [] : [names.spiffeId];
    const isFit =
      leaf.checkPrivateKey(createPrivateKey(privateKeyPem)) &&
      sameNames(namesOfCertificate(leaf.raw), wantedNames({ ...names, uris })) &&
      endsAt(chainPem, rootPem) &&
      issuedAtMs <= nowMs &&
      notAfterMs > nowMs;
    return isFit ? { chainPem, privateKeyPem, issuedAtMs, notAfterMs } : null;
  } catch (error) {
    if (error instanceof CulvertError) throw error;
    return null;
  }
}

function endsAt(chainPem: string, rootPem: string): boolean {
  const chain = readCertificateChain(chainPem);
  return chain !== undefined && endsAtRoot(chain, rootPem);
}
