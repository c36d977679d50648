import { CulvertError } from '../../shared/errors.js';
import { runCommand } from '../lab/command.js';
import { findCommand } from '../lab/requirements.js';
import { Cluster } from './cluster/cluster.js';
import { Kubectl } from './cluster/kubectl.js';
import { imageName, type TestImage, usualRepository } from './images/test-images.js';

/** Variables by which the runner tells the processes of the tests which cluster they are about. */
export const targetVariables = {
  /** File with the plan of a cluster of our own. */
  plan: 'CULVERT_KUBERNETES_PLAN',
  /** Where a cluster of the user has the images from. */
  images: 'CULVERT_KUBERNETES_IMAGES',
  /** File to which figures are appended; absent: they are only printed. */
  figures: 'CULVERT_KUBERNETES_FIGURES',
  /** `1`: what is tried many times is tried a thousand times. */
  soak: 'CULVERT_KUBERNETES_SOAK',
} as const;

/** The cluster that the tests run on. */
export type Target = {
  readonly kubectl: Kubectl;
  /** With the name of the image in this cluster. */
  readonly image: (name: TestImage) => string;
};

/** Whether what is tried many times is tried a thousand times. */
export function isSoak(): boolean {
  return process.env[targetVariables.soak] === '1';
}

/** The file with the plan of a cluster of our own; null: the cluster is the user's. */
export function ownPlan(): string | null {
  return process.env[targetVariables.plan] ?? null;
}

/** Our own cluster, which has nodes whose insides tests may look at. Throws `NO_CLUSTER`. */
export function ownCluster(): Cluster {
  const { [targetVariables.plan]: file } = process.env;
  if (file !== undefined) return Cluster.open(file);
  const message = 'These tests run on a cluster, and there is none.';
  throw new CulvertError({ code: 'NO_CLUSTER', message, hint: 'npm run test:kubernetes makes one' });
}

/** Our own cluster, or the one of `KUBECONFIG`. Throws `NO_CLUSTER`. */
export function openTarget(): Target {
  const { KUBECONFIG: config, [targetVariables.plan]: plan, [targetVariables.images]: images } = process.env;
  const image = (name: TestImage): string => imageName(name, images ?? usualRepository);
  if (plan === undefined && config !== undefined && config !== '') return { kubectl: usersKubectl(), image };
  return { kubectl: ownCluster().kubectl, image };
}

/** `kubectl` of the PATH, which finds the cluster by itself. */
export function usersKubectl(): Kubectl {
  if (findCommand('kubectl') === null) {
    const message = 'KUBECONFIG names a cluster, and there is no "kubectl" in the PATH.';
    throw new CulvertError({ code: 'REQUIREMENT_MISSING', message, hint: 'install the kubectl of that cluster' });
  }
  return new Kubectl((args, options) => runCommand(['kubectl', ...args], options));
}

/** The version of the server and the names of the nodes, for the report. Throws when the cluster does not answer. */
export async function describeTarget(kubectl: Kubectl): Promise<string> {
  const version = (await kubectl.json(['version'])) as { readonly serverVersion: { readonly gitVersion: string } };
  const nodes = await kubectl.succeed(['get', 'nodes', '-o', 'name']);
  return `Kubernetes ${version.serverVersion.gitVersion}, ${nodes.trim().split('\n').length} nodes`;
}
