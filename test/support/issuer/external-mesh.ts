import { openMeshCa, type OpenedCa } from '../../../controller/ca/open-mesh-ca.js';
import { controllerSettings, type ControllerSettings } from '../../../controller/config/settings.js';
import { KeyVault } from '../../../controller/keys/key-vault.js';
import type { SpiffeId } from '../../../shared/identity.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { silentLog } from '../controller/controller-fixture.js';
import { nodeNamed } from '../routing/names.js';
import type { FakeKubernetes } from './fake-kubernetes.js';
import type { FakeVault } from './fake-vault.js';

export const trustDomain = 'mesh.test';
export const web = `spiffe://${trustDomain}/ns/shop/sa/web` as SpiffeId;
export const hostA = nodeNamed('host-a');

/** The settings of a controller whose issuer is elsewhere. */
export function settingsWith(stateDir: string, changed: Partial<ControllerSettings>): ControllerSettings {
  const defaults = Object.fromEntries(Object.entries(controllerSettings).map(([name, spec]) => [name, spec.default]));
  return { ...(defaults as ControllerSettings), stateDir, trustDomain, advertise: ['controller.test'], ...changed };
}

/** With a token that never ends. */
export async function vaultSettings(vault: FakeVault, stateDir: string): Promise<ControllerSettings> {
  return settingsWith(stateDir, {
    issuer: 'vault',
    vaultAddress: vault.server.url,
    issuerCaFile: vault.server.caFile,
    issuerCredentialFile: await vault.server.file('token', `${vault.token()}\n`),
  });
}

export async function kubernetesSettings(cluster: FakeKubernetes, stateDir: string): Promise<ControllerSettings> {
  return settingsWith(stateDir, {
    issuer: 'cert-manager',
    certManagerApi: cluster.server.url,
    certManagerIssuer: 'ClusterIssuer/culvert',
    issuerCaFile: cluster.server.caFile,
    issuerCredentialFile: await cluster.server.file('token', `${cluster.token}\n`),
  });
}

export async function openCa(
  settings: ControllerSettings,
  nowMs: () => number = Date.now,
): Promise<OpenedCa & AsyncDisposable> {
  const opened = await openMeshCa({ settings, vault: KeyVault.plain, log: silentLog, nowMs });
  return { ...opened, [Symbol.asyncDispose]: opened.close };
}

/** Asks for a certificate of `web`, as an agent of host-a does. */
export async function signWeb({ ca }: OpenedCa, csrPem?: string): Promise<string> {
  const csr = csrPem ?? (await createCsr({ identity: web })).csrPem;
  return (await ca.signWorkload({ csrPem: csr, identity: web, node: hostA })).chainPem;
}
