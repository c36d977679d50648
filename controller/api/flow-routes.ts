import type { FlowHistory } from '../flows/flow-history.js';
import type { FlowsAnswer } from './api-types.js';
import { readTimeMs } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Flows in one answer; the rest is only counted. */
const maxFlows = 50_000;

/** Connections as the agents recorded them. */
export function flowRoutes({ flows }: { readonly flows: FlowHistory }): Route[] {
  const list = ({ query }: ApiRequest): ApiAnswer => {
    const sinceMs = readTimeMs(query.get('sinceMs'));
    const found = flows.query({ sinceMs, namespace: query.get('namespace') });
    const body: FlowsAnswer = {
      flows: found.flows.slice(0, maxFlows),
      leftOut: Math.max(0, found.flows.length - maxFlows),
      notKept: found.notKept,
      oldestMs: found.oldestMs,
      isCurrent: flows.isCurrent,
    };
    return { status: 200, body };
  };
  return [{ method: 'GET', path: '/v1/flows', access: 'viewer', maxBodyBytes: 0, handle: list }];
}
