import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';
import { readPrivateFile } from '../../shared/private-file.js';
import { timeoutSignal } from '../../shared/timeout-signal.js';
import { httpsAddress } from '../config/https-address.js';
import type { ControllerSettings } from '../config/settings.js';
import { rootsConfigMap } from '../install/install-options.js';
import { KubernetesApi } from './kubernetes-api.js';
import { KubernetesError } from './kubernetes-error.js';
import { rootsForAgents } from './published-roots.js';

const timeoutMs = 10_000;
const configMapSchema = z.object({ data: z.record(z.string(), z.string()).nullish() });

/**
 * Refuses to begin a mesh in a cluster that has one, as with an empty volume: agents would leave the rules of theirs for those
 * of the new one, which has none. Errors: `MESH_OF_OTHER_STATE`, and `KubernetesError` where the cluster does not answer.
 */
export async function assertOnlyMesh(
  settings: Pick<
    ControllerSettings,
    'kubernetesApi' | 'kubernetesCaFile' | 'kubernetesTokenFile' | 'kubernetesNamespace' | 'stateDir'
  >,
): Promise<void> {
  const { kubernetesApi, kubernetesNamespace: namespace, stateDir } = settings;
  // The CA and the keys of a mesh are made together.
  if (kubernetesApi === null || (await readPrivateFile(join(stateDir, 'signing-key.json'))) !== undefined) return;
  // Without a credential for the cluster, which a pod has from its start, nothing can be published there either.
  if (!existsSync(settings.kubernetesTokenFile)) return;
  const api = new KubernetesApi({
    url: httpsAddress(kubernetesApi, '--kubernetes-api'),
    caFile: settings.kubernetesCaFile,
    tokenFile: settings.kubernetesTokenFile,
  });
  try {
    const found = configMapSchema.parse(await api.get(rootsForAgents(namespace).path, timeoutSignal(timeoutMs)));
    if (Object.values(found.data ?? {}).every((text) => text === '')) return;
  } catch (error) {
    // Not there, or the role is of an earlier version.
    if (error instanceof KubernetesError && (error.status === 404 || error.status === 403)) return;
    throw error;
  } finally {
    api.close();
  }
  throw new CulvertError({
    code: 'MESH_OF_OTHER_STATE',
    message: `the ConfigMap ${rootsConfigMap} of ${namespace} has the roots of a mesh, and ${stateDir} has nothing of it`,
    hint:
      'bring its state back: its volume, or a backup. To begin a new mesh, without the rules, users and tokens of the one before: ' +
      `kubectl -n ${namespace} patch configmap ${rootsConfigMap} --type merge -p '{"data":null}'. Agents join it by themselves`,
  });
}
