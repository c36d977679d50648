import type { FlowHistory } from '../flows/flow-history.js';
import type { AgentStatus } from '../fleet/agent-registry.js';
import type { FlowsAnswer } from './api-types.js';
import { readTimeMs } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Flows in one answer; the rest is only counted. */
const maxFlows = 50_000;

/** An agent reports every 4 s; one whose newest report is older than this is behind. */
const behindAfterMs = 10_000;
/** Nodes in one answer that are behind. */
const maxBehind = 100;

/** Up to when the records are complete, and which nodes have not reported since. */
function freshness(
  agents: readonly Pick<AgentStatus, 'node' | 'lastSeenMs'>[],
  flows: FlowHistory,
  nowMs: number,
): Required<Pick<FlowsAnswer, 'asOfMs' | 'behind'>> {
  // One that never ran has nothing to report.
  const known = agents
    .filter(({ lastSeenMs }) => lastSeenMs !== null)
    .map(({ node }) => ({ node, asOfMs: flows.asOfMs(node) }));
  const isBehind = ({ asOfMs }: { readonly asOfMs: number | null }): boolean =>
    asOfMs === null || nowMs - asOfMs > behindAfterMs;
  const fresh = known.flatMap((agent) => (isBehind(agent) ? [] : (agent.asOfMs ?? [])));
  return {
    asOfMs: fresh.length === 0 ? null : Math.min(...fresh),
    behind: known.filter(isBehind).slice(0, maxBehind),
  };
}

/** Connections as the agents recorded them. */
export function flowRoutes(init: {
  readonly flows: FlowHistory;
  readonly agents: () => readonly Pick<AgentStatus, 'node' | 'lastSeenMs'>[];
  readonly nowMs: () => number;
}): Route[] {
  const { flows, agents, nowMs } = init;

  const list = ({ query }: ApiRequest): ApiAnswer => {
    const sinceMs = readTimeMs(query.get('sinceMs'));
    const found = flows.query({ sinceMs, namespace: query.get('namespace') });
    const body: FlowsAnswer = {
      flows: found.flows.slice(0, maxFlows),
      leftOut: Math.max(0, found.flows.length - maxFlows),
      notKept: found.notKept,
      oldestMs: found.oldestMs,
      isCurrent: flows.isCurrent,
      lost: flows.lostSince(sinceMs),
      ...freshness(agents(), flows, nowMs()),
    };
    return { status: 200, body };
  };
  return [{ method: 'GET', path: '/v1/flows', access: 'viewer', maxBodyBytes: 0, handle: list }];
}
