import { generateKeyPairSync } from 'node:crypto';
import { isIP } from 'node:net';
import { describeCertificate } from '../../shared/pki/certificate-info.js';
import type { MeshCa } from './mesh-ca.js';

/** A server's key and certificate chain, PEM. */
export type ServerKeyPair = { readonly chainPem: string; readonly privateKeyPem: string };

type IssuedKeyPair = ServerKeyPair & { readonly issuedAtMs: number; readonly notAfterMs: number };

const clockToleranceMs = 60_000;

/** The certificate of one server of the controller's (HTTPS, NATS), renewed at half of its life. */
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

  /** `names`: DNS names and IP addresses. The key lives in memory only and changes with every certificate. */
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

  /** True when there is a new one now. Called at times by the owner. */
  async renewIfDue(): Promise<boolean> {
    const { issuedAtMs, notAfterMs } = this.#current;
    const now = this.#nowMs();
    // A clock that was set back would leave it "not yet valid" for as long as it was ahead.
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
