import type { KeyPurpose } from '../keys/key-files.js';
import { KeyVault } from '../keys/key-vault.js';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { externalRecordSchema, type ExternalRecord } from './issuer/external-record.js';
import { loadCertificateAuthority, type CertificateAuthority } from './x509/certificate-authority.js';
import { CulvertError } from '../../shared/errors.js';
import { describeCertificate } from '../../shared/pki/certificate-info.js';
import { joinCertificates, splitCertificates } from '../../shared/pki/pem.js';
import { readPrivateFile, syncDirectoryOf, writePrivateFile } from '../../shared/private-file.js';

export type ServerFile = 'server-api' | 'server-nats';

const removable = [
  'root',
  'issuing',
  'next-root',
  'previous-roots',
  'external',
  'next-external',
  'server-api',
  'server-nats',
] as const;

/**
 * The CA on disk: `ca/` in the state directory, files of mode 0600, encrypted where there is a passphrase. Each authority is
 * one file with both its certificates and its key, so that the two always match:
 * - `root.pem`: the root; absent when its key is kept elsewhere,
 * - `issuing.pem`: the CA that signs leaves, and the certificates up to its root,
 * - `next-root.pem`: during a rotation, the root that agents learn to trust before it is used,
 * - `previous-roots.pem`: certificates of roots that still have to be trusted,
 * - `external.json`: an issuer elsewhere signs, and what is known of it; no other file has a key of the mesh then,
 * - `next-external.json`: during a move to such an issuer, what agents learn to trust before it is used.
 */
export class CaFiles {
  readonly #directory: string;
  readonly #vault: KeyVault;

  /** `vault`: absent: the keys are in the clear. */
  constructor(init: { readonly stateDir: string; readonly vault?: KeyVault }) {
    this.#directory = join(init.stateDir, 'ca');
    this.#vault = init.vault ?? KeyVault.plain;
  }

  /** Whether this state directory has a CA, or a part of one. */
  static async areIn(stateDir: string): Promise<boolean> {
    const names = await readdir(join(stateDir, 'ca')).catch(() => []);
    return names.length > 0;
  }

  /** Undefined when there is no such file. Errors: `CA_INVALID` or `KEY_INVALID` when it is damaged, and those of `KeyVault`. */
  async readAuthority(name: 'root' | 'issuing' | 'next-root'): Promise<CertificateAuthority | undefined> {
    const text = await this.#vault.read(this.#path(name), `ca/${name}` satisfies KeyPurpose);
    if (text === undefined) return undefined;
    const key = /-----BEGIN PRIVATE KEY-----[\s\S]+?-----END PRIVATE KEY-----\n?/.exec(text)?.[0] ?? '';
    return loadCertificateAuthority({
      certificatesPem: splitCertificates(text).join(''),
      privateKeyPem: key,
    });
  }

  async writeAuthority(name: 'root' | 'issuing' | 'next-root', authority: CertificateAuthority): Promise<void> {
    const certificates = joinCertificates([authority.certificatePem, authority.chainPem, authority.rootPem]);
    const text = certificates + authority.privateKeyPem;
    await this.#vault.write(this.#path(name), `ca/${name}` satisfies KeyPurpose, text);
  }

  /** Undefined when there is no such file. Errors: `CA_INVALID` when it is damaged, `STATE_READ`. */
  async readExternal(name: 'external' | 'next-external'): Promise<ExternalRecord | undefined> {
    const path = this.#path(name);
    const text = await readPrivateFile(path);
    if (text === undefined) return undefined;
    try {
      return externalRecordSchema.parse(JSON.parse(text));
    } catch (cause) {
      throw new CulvertError({
        code: 'CA_INVALID',
        message: `${path} is damaged`,
        hint: 'restore it from a backup',
        cause,
      });
    }
  }

  async writeExternal(name: 'external' | 'next-external', record: ExternalRecord): Promise<void> {
    await writePrivateFile(this.#path(name), `${JSON.stringify(record, null, 1)}\n`);
  }

  /** The key and certificate of one of the controller's servers, PEM; undefined when there is no such file. */
  readServer(name: ServerFile): Promise<string | undefined> {
    return this.#vault.read(this.#path(name), `ca/${name}` satisfies KeyPurpose);
  }

  writeServer(name: ServerFile, text: string): Promise<void> {
    return this.#vault.write(this.#path(name), `ca/${name}` satisfies KeyPurpose, text);
  }

  async remove(name: (typeof removable)[number]): Promise<void> {
    await rm(this.#path(name), { force: true });
    await syncDirectoryOf(this.#path(name));
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
    const extension = name.endsWith('external') ? 'json' : 'pem';
    return join(this.#directory, `${name}.${extension}`);
  }
}
