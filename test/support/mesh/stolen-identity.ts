import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { TunnelCertificates } from '../../../agent/dataplane/tunnel/tunnel.js';
import { CaFiles } from '../../../controller/ca/ca-files.js';
import type { CertificateAuthority } from '../../../controller/ca/x509/certificate-authority.js';
import { issueWorkloadCertificate } from '../../../controller/ca/x509/mesh-certificates.js';
import type { SpiffeId } from '../../../shared/identity.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import type { Mesh } from '../../lab/mesh.js';

/** The CA that signs the certificates of a mesh's workloads, as who stole it has it. */
export async function issuerOf(mesh: Mesh): Promise<CertificateAuthority> {
  const found = await new CaFiles({ stateDir: mesh.controller.stateDir }).readAuthority('issuing');
  if (found === undefined) throw new Error('the controller keeps its issuing CA elsewhere now');
  return found;
}

/** A certificate from the mesh's own CA for any identity, as with a stolen CA key. */
export async function stolen(
  issuer: CertificateAuthority,
  identity: SpiffeId,
  { startsInMs = 0, ttlMs = 3_600_000 }: { readonly startsInMs?: number; readonly ttlMs?: number } = {},
): Promise<TunnelCertificates> {
  const { csrPem, privateKeyPem } = await createCsr({ identity });
  const now = Date.now() + startsInMs;
  const issued = await issueWorkloadCertificate({ issuer, csrPem, identity, ttlMs, now, backdateMs: 0 });
  const certificate = { identity, chainPem: issued.chainPem, keyPem: privateKeyPem, notAfterMs: issued.notAfterMs };
  return { rootsPem: issuer.rootPem, certificates: [certificate] };
}

/** `certificate.pem`, `key.pem` and `roots.pem` in a new directory, for programs. */
export function writeIdentity(directory: string, { rootsPem, certificates }: TunnelCertificates): string {
  mkdirSync(directory, { mode: 0o755 });
  const [certificate] = certificates;
  writeFileSync(path.join(directory, 'certificate.pem'), certificate?.chainPem ?? '');
  writeFileSync(path.join(directory, 'key.pem'), certificate?.keyPem ?? '', { mode: 0o644 });
  writeFileSync(path.join(directory, 'roots.pem'), rootsPem);
  return directory;
}
