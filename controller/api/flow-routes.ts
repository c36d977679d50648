import type { FlowHistory } from '../flows/flow-history.js';
import { badRequest } from './api-error.js';
import type { FlowsAnswer } from './api-types.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** More flows than this are not sent at once; the rest is counted. */
const maxFlows = 50_000;

/** What agents recorded of connections. */
export function flowRoutes({ flows }: { readonly flows: FlowHistory }): Route[] {
  const list = ({ query }: ApiRequest): ApiAnswer => {
    const sinceMs = readSince(query.get('sinceMs'));
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

function readSince(text: string | null): number {
  if (text === null || text === '') return 0;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw badRequest(`"${text}" is no time`, 'give sinceMs as milliseconds since 1970, such as 1800000000000');
}
