import type { KubernetesState } from '../../kubernetes/kubernetes-state.js';
import { fail, warn, type Finding } from './mesh-check.js';

export function kubernetesText({ pods, enrolled, services, rules }: KubernetesState): string {
  const custom = rules === undefined ? '' : `; ${rules.taken} of ${rules.objects} custom resources are among the rules`;
  return `${pods} pods are known, ${enrolled} of them in the mesh, and ${services} services${custom}`;
}

/** What is wrong with what the controller knows of its cluster. */
export function kubernetesFindings({ isSynced, problems, warnings, rules }: KubernetesState): Finding[] {
  const old = isSynced
    ? 'pods and services that changed since are not in force'
    : 'pods and services are those of before its last start';
  const waits = isSynced || problems.length > 0 ? [] : ['the cluster is not listed yet'];
  return [
    ...[...problems, ...waits].map((problem) => fail(`${problem}: ${old}`, 'see the log of the controller')),
    ...warnings.map((warning) => warn(warning, 'correct its label or annotation')),
    ...(rules?.problems ?? []).map((problem) =>
      fail(`${problem}: rules that changed in the cluster since are not in force`, 'see the log of the controller'),
    ),
    ...(rules?.warnings ?? []).map((warning) => warn(warning, 'correct it in the cluster: kubectl get culvert -A')),
  ];
}
