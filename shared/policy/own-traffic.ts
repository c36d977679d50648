import { meshDefaultRef, type Decision, type Party } from './connection.js';
import { plainRule } from './snapshot.js';

/**
 * Whether two parties are one registered workload, at whatever addresses. This is for a source that is known to be the
 * workload: the one whose listener accepted, or that of a prediction. The registry's entry for a source address is no
 * proof, so connections that arrive from outside the workload are never its own.
 */
export function areOneWorkload({ workload: a }: Party, { workload: b }: Party): boolean {
  return a !== null && b !== null && a.name === b.name && a.namespace === b.namespace;
}

/**
 * Allowed, whatever the rules say: dials of own addresses stay within the network namespace and reach no agent, and a pod
 * cannot block access to itself (Kubernetes, Network Policies). A dial of a service whose endpoint is the workload itself
 * must not differ from that.
 */
export function decideOwnTraffic(withTrace: boolean): Decision {
  return { ...allowed, trace: withTrace ? [step] : [] };
}

const allowed: Omit<Decision, 'trace'> = {
  verdict: 'allow',
  reason: 'OK',
  rule: meshDefaultRef,
  onChange: plainRule.onChange,
  audited: [],
};

const step: Decision['trace'][number] = {
  stage: 'default',
  rule: meshDefaultRef,
  outcome: 'allow',
  detail: 'a workload always reaches itself: no rule is asked',
};
