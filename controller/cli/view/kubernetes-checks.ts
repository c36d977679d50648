import type { KubernetesState } from '../../kubernetes/kubernetes-state.js';
import { fail, warn, type Finding } from './mesh-check.js';

export function kubernetesText({ pods, enrolled, services }: KubernetesState): string {
  return `${pods} pods are known, ${enrolled} of them in the mesh, and ${services} services`;
}

/** What is wrong with what the controller knows of its cluster. */
export function kubernetesFindings({ isSynced, problems, warnings }: KubernetesState): Finding[] {
  const old = isSynced
    ? 'pods and services that changed since are not in force'
    : 'pods and services are those of before its last start';
  const waits = isSynced || problems.length > 0 ? [] : ['the cluster is not listed yet'];
  return [
    ...[...problems, ...waits].map((problem) => fail(`${problem}: ${old}`, 'see the log of the controller')),
    ...warnings.map((warning) => warn(warning, 'correct its label or annotation')),
  ];
}
