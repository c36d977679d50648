import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { loadCertificateAuthority, type CertificateAuthority } from './x509/certificate-authority.js';
import { describeCertificate } from '../../shared/pki/certificate-info.js';
import { joinCertificates, splitCertificates } from '../../shared/pki/pem.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';

/**
 * The CA on disk: `ca/` in the state directory, files of mode 0600. Each authority is one file with both its certificates
 * and its key, so that the two always match:
 * - `root.pem`: the root; absent when an issuing CA of an external root was imported,
 * - `issuing.pem`: the CA that signs leaves, and the certificates up to its root,
 * - `next-root.pem`: during a rotation, the root that agents learn to trust before it is used,
 * - `previous-roots.pem`: certificates of roots that still have to be trusted.
 */
export class CaFiles {
  readonly #directory: string;

  constructor(init: { readonly stateDir: string }) {
    this.#directory = join(init.stateDir, 'ca');
  }

  /** Undefined when there is no such file. Errors: `CA_INVALID` or `KEY_INVALID` when it is damaged. */
  async readAuthority(name: 'root' | 'issuing' | 'next-root'): Promise<CertificateAuthority | undefined> {
    const text = await readPrivateFile(this.#path(name));
    if (text === undefined) return undefined;
    const key = /-----BEGIN PRIVATE KEY-----[\s\S]+?-----END PRIVATE KEY-----\n?/.exec(text)?.[0] ?? '';
    return loadCertificateAuthority({
      certificatesPem: splitCertificates(text).join(''),
      privateKeyPem: key,
    });
  }

  async writeAuthority(name: 'root' | 'issuing' | 'next-root', authority: CertificateAuthority): Promise<void> {
    const certificates = joinCertificates([authority.certificatePem, authority.chainPem, authority.rootPem]);
    await writePrivateFile(this.#path(name), certificates + authority.privateKeyPem);
  }

  async remove(name: 'root' | 'issuing' | 'next-root' | 'previous-roots'): Promise<void> {
    await rm(this.#path(name), { force: true });
  }

  /** The previous roots that have not expired at `nowMs`. */
  async readPreviousRoots(nowMs: number): Promise<string[]> {
    const text = (await readPrivateFile(this.#path('previous-roots'))) ?? '';
    return splitCertificates(text).filter((pem) => describeCertificate(pem).notAfterMs > nowMs);
  }

  async addPreviousRoot(rootPem: string, nowMs: number): Promise<void> {
    const kept = await this.readPreviousRoots(nowMs);
    await writePrivateFile(this.#path('previous-roots'), joinCertificates([...kept, rootPem]));
  }

  #path(name: string): string {
    return join(this.#directory, `${name}.pem`);
  }
}
