import { join } from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { readPrivateFile } from '../../shared/private-file.js';
import type { ControllerSettings } from '../config/settings.js';
import type { KeyVault } from '../keys/key-vault.js';
import { CaFiles } from './ca-files.js';
import type { CertificateIssuer } from './certificate-issuer.js';
import type { ExternalRecord } from './issuer/external-record.js';
import { ExternalCa, type ExternalCaSettings, type TrustChange } from './issuer/external-ca.js';
import { GuardedIssuer, type IssuerOutcome } from './issuer/guarded-issuer.js';
import { openIssuer, type IssuerSettings } from './issuer/open-issuer.js';
import { MeshCa } from './mesh-ca.js';
import { serverNamesOf } from './server-names.js';

export type MeshCaInit = {
  readonly settings: ControllerSettings;
  readonly vault: KeyVault;
  readonly log: Log;
  readonly nowMs: () => number;
  readonly onAsked?: (outcome: IssuerOutcome, durationMs: number) => void;
  readonly onTrust?: (change: TrustChange) => void;
};

export type OpenedCa = { readonly ca: CertificateIssuer; readonly close: () => Promise<void> };

/**
 * What signs for this mesh. The state directory decides: a mesh with a CA of its own keeps it until it has been rotated to the
 * issuer of the settings, and one with an issuer elsewhere never signs by itself. Errors: those of `MeshCa.open` and
 * `ExternalCa.open`, and `CONFIG_INVALID`.
 */
export async function openMeshCa(init: MeshCaInit): Promise<OpenedCa> {
  const { settings, vault, log, nowMs } = init;
  const { stateDir, trustDomain } = settings;
  const files = new CaFiles({ stateDir, vault });
  const issuer = openIssuer(settings, { trustDomain, nowMs });
  const isExternal = (await files.readExternal('external')) !== undefined;
  if (issuer === null) {
    if (isExternal) throw signedElsewhere();
    return { ca: await openOwn(init), close: async () => undefined };
  }
  if (!isExternal && (await files.readAuthority('issuing')) !== undefined) {
    log.warn(
      { issuer: issuer.place },
      'the CA of this mesh signs until it is moved to the issuer: stop the controller and run culvert-controller ca rotate prepare',
    );
    issuer.close();
    return { ca: await openOwn(init), close: async () => undefined };
  }
  if (!isExternal && settings.issuerRootsFile === null) await assertNewMesh(stateDir);
  // A move that broke off when the issuer already signed.
  for (const name of ['issuing', 'root', 'next-external'] as const) if (isExternal) await files.remove(name);
  const guarded = new GuardedIssuer({ issuer, ...(init.onAsked === undefined ? {} : { onAsked: init.onAsked }) });
  try {
    const ca = await ExternalCa.open({
      settings: externalSettings(settings),
      issuer: guarded,
      files,
      log,
      nowMs,
      ...(init.onTrust === undefined ? {} : { onTrust: init.onTrust }),
    });
    return { ca, close: async () => guarded.close() };
  } catch (error) {
    guarded.close();
    throw error;
  }
}

/** Finds out what the issuer of the settings signs with, and that it can sign for the mesh. */
export type TakeUp = () => Promise<ExternalRecord>;

/** Null: the settings name no issuer elsewhere. Errors: `CONFIG_INVALID`; the function has those of `ExternalCa.takeUp`. */
export function takeUpOf(settings: ControllerSettings): TakeUp | null {
  const nowMs = Date.now;
  const issuer = openIssuer(settings, { trustDomain: settings.trustDomain, nowMs });
  if (issuer === null) return null;
  return async () => {
    const guarded = new GuardedIssuer({ issuer });
    try {
      return await ExternalCa.takeUp({ settings: externalSettings(settings), issuer: guarded, nowMs });
    } finally {
      guarded.close();
    }
  };
}

function externalSettings(
  settings: IssuerSettings &
    Pick<
      ControllerSettings,
      'trustDomain' | 'advertise' | 'workloadCertificateTtl' | 'nodeCertificateTtl' | 'serverCertificateTtl'
    >,
): ExternalCaSettings {
  return {
    trustDomain: settings.trustDomain,
    workloadTtlMs: settings.workloadCertificateTtl,
    nodeTtlMs: settings.nodeCertificateTtl,
    serverTtlMs: settings.serverCertificateTtl,
    rootsFile: settings.issuerRootsFile,
    serverNames: serverNamesOf(settings.advertise),
  };
}

function openOwn({ settings, vault, log, nowMs }: MeshCaInit): Promise<MeshCa> {
  return MeshCa.open({
    vault,
    settings: {
      stateDir: settings.stateDir,
      trustDomain: settings.trustDomain,
      workloadTtlMs: settings.workloadCertificateTtl,
      nodeTtlMs: settings.nodeCertificateTtl,
      serverTtlMs: settings.serverCertificateTtl,
      backdateMs: settings.certificateBackdate,
    },
    log,
    nowMs,
  });
}

function signedElsewhere(): CulvertError {
  return new CulvertError({
    code: 'CA_EXTERNAL',
    message: 'an issuer elsewhere signs the certificates of this mesh, and --issuer does not name it',
    hint: 'set --issuer as before; a mesh moves to a CA of its own with culvert-controller ca rotate prepare --issuer own',
  });
}

/** Agents of an old mesh trust a root, which must not become another one because a file was lost. */
async function assertNewMesh(stateDir: string): Promise<void> {
  if ((await readPrivateFile(join(stateDir, 'signing-key.json'))) === undefined) return;
  throw new CulvertError({
    code: 'CA_MISSING',
    message: `what is known of the issuer of this mesh is not in ${join(stateDir, 'ca')}`,
    hint: 'restore it from a backup, or name the root that agents trust with --issuer-roots-file',
  });
}
