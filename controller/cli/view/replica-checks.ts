import type { ReplicasState } from '../../kubernetes/replicas.js';
import { formatSpan } from './format-time.js';
import { warn, type Finding } from './mesh-check.js';

type Pod = { readonly name: string; readonly node: string | null };

/** `NAME on NODE`. */
function placeOf({ name, node }: Pod): string {
  return node === null ? name : `${name} on ${node}`;
}

/** `has served for 3h`; where it is not known for how long, `serves`. */
function lasting(now: string, until: string, since: string | null, nowMs: number): string {
  return since === null ? now : `${until} for ${formatSpan(Math.max(0, nowMs - Date.parse(since)))}`;
}

/** Which controller serves, and which ones can take over, as one line. */
export function replicasText({ serving, standingBy, notReady, problem }: ReplicasState, nowMs: number): string {
  const others = [
    ...standingBy.map((pod) => `${placeOf(pod)} ${lasting('stands by', 'has stood by', pod.since, nowMs)}`),
    ...notReady.map((pod) => `${placeOf(pod)} cannot take over: ${pod.why}`),
  ];
  const none = problem === null ? 'none stands by' : `whether one stands by is not known: ${problem}`;
  return [
    `${placeOf(serving)} ${lasting('serves', 'has served', serving.since, nowMs)}`,
    ...(others.length === 0 || problem !== null ? [none] : others),
  ].join('; ');
}

/** Who asked for a lease expects a second controller. */
export function replicaFindings({ lease, standingBy, notReady, problem, leaseProblem }: ReplicasState): Finding[] {
  const renewal =
    leaseProblem === null
      ? []
      : [
          warn(
            `the Lease ${lease} could not be renewed the last time, and this controller ends when it cannot for 10 s: ${leaseProblem}`,
            'see whether the API server answers, and the role of the controller',
          ),
        ];
  if (problem !== null) {
    const message = `whether a second controller stands by is not known, so this is not checked: the pods: ${problem}`;
    return [...renewal, warn(message, 'the role of the controller must allow "list" of pods; see its log')];
  }
  const wrong = notReady.map((pod) =>
    warn(
      `the controller ${placeOf(pod)} cannot take over: ${pod.why}`,
      `see kubectl describe pod ${pod.name}, and its log`,
    ),
  );
  if (standingBy.length > 0 || wrong.length > 0) return [...renewal, ...wrong];
  const message = `no second controller stands by, although this one serves with the Lease ${lease}: when it is lost, no rule changes and no node joins`;
  const hint =
    'see kubectl get pods of its namespace; for one controller only, install with --replicas 1 (controller.replicas of the chart)';
  return [...renewal, warn(message, hint)];
}
