import { generateKeyPairSync } from 'node:crypto';
import { isIP } from 'node:net';
import { describeCertificate } from '../../shared/pki/certificate-info.js';
import type { MeshCa } from './mesh-ca.js';

/** A server's key and certificate chain, PEM. */
export type ServerKeyPair = { readonly chainPem: string; readonly privateKeyPem: string };

type IssuedKeyPair = ServerKeyPair & { readonly issuedAtMs: number; readonly notAfterMs: number };

const clockToleranceMs = 60_000;

/** The certificate of one of the controller's servers (HTTPS, NATS), renewed at half of its lifetime. */
export class ServerCertificate {
  readonly #ca: MeshCa;
  readonly #names: readonly string[];
  readonly #nowMs: () => number;
  #current: IssuedKeyPair;

  private constructor(init: { ca: MeshCa; names: readonly string[]; nowMs: () => number; current: IssuedKeyPair }) {
    this.#ca = init.ca;
    this.#names = init.names;
    this.#nowMs = init.nowMs;
    this.#current = init.current;
  }

  /** `names`: DNS names and IP addresses. The key is held in memory only and is new for every certificate. */
  static async issue(init: {
    readonly ca: MeshCa;
    readonly names: readonly string[];
    readonly nowMs: () => number;
  }): Promise<ServerCertificate> {
    return new ServerCertificate({ ...init, current: await issueFor(init.ca, init.names, init.nowMs()) });
  }

  get current(): ServerKeyPair {
    return this.#current;
  }

  /** Returns true when it has made a new certificate. The owner calls it periodically. */
  async renewIfDue(): Promise<boolean> {
    const { issuedAtMs, notAfterMs } = this.#current;
    const now = this.#nowMs();
    // After the clock was set back, the certificate would stay "not yet valid" until the clock catches up.
    const isFromTheFuture = now < issuedAtMs - clockToleranceMs;
    if (!isFromTheFuture && now < issuedAtMs + (notAfterMs - issuedAtMs) / 2) return false;
    this.#current = await issueFor(this.#ca, this.#names, now);
    return true;
  }
}

async function issueFor(ca: MeshCa, names: readonly string[], issuedAtMs: number): Promise<IssuedKeyPair> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const { chainPem } = await ca.signServer({
    publicKeyPem: publicKey,
    dnsNames: names.filter((name) => isIP(name) === 0),
    ipAddresses: names.filter((name) => isIP(name) !== 0),
  });
  const { notAfterMs } = describeCertificate(chainPem);
  return { chainPem, privateKeyPem: privateKey, issuedAtMs, notAfterMs };
}
