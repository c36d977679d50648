import { version } from '../../../shared/version.js';
import { defaultValues, type KubernetesObject } from '../../install/install-options.js';
import { installObjects } from '../../install/install-objects.js';
import type { CliIo } from '../cli-io.js';
import { surveyCluster } from '../client/cluster-survey.js';
import { Kubectl } from '../client/kubectl.js';
import { usageError } from '../exit-codes.js';
import { readInput } from '../input/input-files.js';
import { lazyYaml } from '../view/lazy-yaml.js';
import type { MeshCheck } from '../view/mesh-check.js';
import { checkCluster } from '../view/preflight/cluster-checks.js';
import { plannedInstallation, type PlannedInstallation } from '../view/preflight/planned-installation.js';

export type BeforeOptions = {
  /** Files with the objects that will be applied; empty: those of `culvert install` without options. */
  readonly files: readonly string[];
  readonly kubectl: string;
  readonly kubeContext: string | null;
};

/** What stands in the way of an installation in a cluster. Errors: `KUBECTL`; usage, for files without an installation. */
export async function checkBefore({ files, ...o }: BeforeOptions, io: CliIo): Promise<MeshCheck[]> {
  const planned = await plannedOf(files, io);
  const hint = 'name your cluster: KUBECONFIG, or --kube-context; --kubectl names another kubectl';
  const kubectl = new Kubectl({ program: o.kubectl, context: o.kubeContext, hint, env: io.env });
  return checkCluster(await surveyCluster(kubectl, planned));
}

async function plannedOf(files: readonly string[], io: CliIo): Promise<PlannedInstallation> {
  const objects = files.length === 0 ? installObjects(defaultValues(version)) : await objectsOf(files, io);
  const planned = plannedInstallation(objects);
  if (planned !== null) return planned;
  throw usageError(
    'there is no agent and no controller of Culvert among these objects',
    'give it what will be applied: culvert install | culvert check --pre -f -',
  );
}

async function objectsOf(files: readonly string[], io: CliIo): Promise<readonly KubernetesObject[]> {
  const { text } = await readInput(files, io);
  return lazyYaml()
    .parseAllDocuments(text, { merge: true })
    .flatMap((document): unknown => {
      const [error] = document.errors;
      if (error !== undefined) throw usageError(`-f: is not valid YAML: ${error.message}`, 'check what has written it');
      const object = document.toJS() as { readonly items?: readonly unknown[] } | null;
      return object?.items ?? object;
    })
    .filter(isObject);
}

function isObject(value: unknown): value is KubernetesObject {
  const { apiVersion, kind, metadata } = (value ?? {}) as Partial<KubernetesObject>;
  return typeof apiVersion === 'string' && typeof kind === 'string' && typeof metadata?.name === 'string';
}
