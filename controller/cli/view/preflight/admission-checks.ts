import { fail, warn, type Finding } from '../mesh-check.js';
import type { ClusterFacts } from './cluster-facts.js';
import { listText } from './texts.js';

/** What the user of kubectl may not do. */
export function rightFindings({ rights }: ClusterFacts): Finding[] {
  if ('problem' in rights) {
    const message = `the API server does not say what you may do: ${rights.problem}`;
    return [warn(message, 'the installation needs an administrator of the cluster')];
  }
  const missing = rights.items.filter(({ isGiven }) => !isGiven).map(({ what }) => what);
  if (missing.length === 0) return [];
  return [
    fail(
      `your account of the cluster may not ${listText(missing)}`,
      'install with an account that may, such as one with the ClusterRole cluster-admin',
    ),
  ];
}

/** What keeps pods of agents out, by what the API server says of one. */
export function admissionFindings({ trial: { namespace, refusal }, planned, served }: ClusterFacts): Finding[] {
  const isOpenShift = served.has('securitycontextconstraints.security.openshift.io');
  const openShift =
    isOpenShift && !planned.isForOpenShift
      ? [
          fail(
            'OpenShift gives pods a security context by the rights of their account, and none of Culvert has any',
            'install with --openshift',
          ),
        ]
      : [];
  if (refusal === null) return openShift;
  if (/insufficient quota to match these scopes/.test(refusal)) {
    return planned.hasQuota
      ? openShift
      : [
          ...openShift,
          fail(
            'the cluster allows pods of the class system-node-critical only where a quota says so',
            'install with --quota-for-critical-pods',
          ),
        ];
  }
  // The label of the namespace of the installation allows them there.
  const isPodSecurity = /violates PodSecurity/.test(refusal);
  if (isPodSecurity && namespace !== planned.namespace) return openShift;
  const message = `a pod like that of an agent is refused in ${namespace}: ${refusal}`;
  const isForbiddenToUser = /cannot create resource "pods"/.test(refusal);
  const hint = isForbiddenToUser
    ? 'ask with an account that may make pods there, to know whether agents can start'
    : isPodSecurity
      ? `kubectl label --overwrite namespace ${namespace} pod-security.kubernetes.io/enforce=privileged`
      : /\bSET[UG]ID\b/.test(refusal)
        ? `install with --agent-privileges whole, or exempt the namespace ${planned.namespace} from what refuses it`
        : `exempt the namespace ${planned.namespace} from what refuses it`;
  const isCertain = namespace === planned.namespace && !isForbiddenToUser;
  return [...openShift, (isCertain ? fail : warn)(message, hint)];
}
