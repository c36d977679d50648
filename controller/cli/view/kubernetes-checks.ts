import type { KubernetesState } from '../../kubernetes/kubernetes-state.js';
import type { StatusAnswer } from '../../api/api-types.js';
import { fail, warn, type Finding } from './mesh-check.js';

type Agents = StatusAnswer['agents'];

export function kubernetesText({ pods, enrolled, services, rules }: KubernetesState, agents: Agents): string {
  const custom = rules === undefined ? '' : `; ${rules.taken} of ${rules.objects} custom resources are among the rules`;
  const plugins = agents.filter(({ heartbeat }) => heartbeat?.cniProblem === null).length;
  const plugin = plugins === 0 ? '' : `; the CNI plugin is in the chain of ${plugins} of ${agents.length} nodes`;
  return `${pods} pods are known, ${enrolled} of them in the mesh, and ${services} services${custom}${plugin}`;
}

/** What is wrong with what the controller knows of its cluster. */
export function kubernetesFindings(
  { isSynced, problems, warnings, rules, eventsProblem, taintsProblem, overwritten = [] }: KubernetesState,
  agents: Agents,
): Finding[] {
  const old = isSynced
    ? 'pods and services that changed since are not in force'
    : 'pods and services are those of before its last start';
  const waits = isSynced || problems.length > 0 ? [] : ['the cluster is not listed yet'];
  return [
    ...[...problems, ...waits].map((problem) => fail(`${problem}: ${old}`, 'see the log of the controller')),
    ...warnings.map((warning) => warn(warning, 'correct its label or annotation')),
    ...agents.flatMap(({ node, heartbeat }) => {
      const problem = heartbeat?.cniProblem ?? null;
      const hint = 'see kubernetes.md, "The CNI plugin": the directories, and who else writes there';
      return problem === null ? [] : [warn(`${node}: ${problem}`, hint)];
    }),
    ...overwritten.map((text) =>
      warn(
        text,
        'find out who, and take the object out of what that one applies: kubectl get --show-managed-fields -o yaml',
      ),
    ),
    ...(eventsProblem == null
      ? []
      : [warn(eventsProblem, 'apply what culvert install prints: the role of the controller allows events')]),
    ...(taintsProblem == null ? [] : [warn(taintsProblem, 'see kubernetes.md, "New nodes"')]),
    ...(rules?.problems ?? []).map((problem) =>
      fail(`${problem}: rules that changed in the cluster since are not in force`, 'see the log of the controller'),
    ),
    ...(rules?.warnings ?? []).map((warning) => warn(warning, 'correct it in the cluster: kubectl get culvert -A')),
  ];
}
