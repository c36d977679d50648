import type { AgentRegistry } from '../fleet/agent-registry.js';
import { rolloutOf } from '../fleet/rollout-progress.js';
import type { ResourceStore } from '../store/resource-store.js';
import { badRequest, notFound } from './api-error.js';
import type { ExportAnswer, RolloutAnswer } from './api-types.js';
import { exportDocuments } from './export-documents.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Where a revision has got to, and all that it consists of. */
export function rolloutRoutes(init: { readonly store: ResourceStore; readonly agents: AgentRegistry }): Route[] {
  const { store, agents } = init;

  const rollout = ({ query }: ApiRequest): ApiAnswer => {
    const present = store.release.state.revision;
    const revision = readRevision(query.get('revision'), present);
    return { status: 200, body: rolloutOf(revision, agents.list(present)) satisfies RolloutAnswer };
  };

  const everything = async (): Promise<ApiAnswer> => {
    const { state, snapshot, entries } = store.release;
    const resources = await exportDocuments(state);
    return { status: 200, body: { revision: state.revision, snapshot, entries, resources } satisfies ExportAnswer };
  };

  return [
    { method: 'GET', path: '/v1/rollout', access: 'viewer', maxBodyBytes: 0, handle: rollout },
    { method: 'GET', path: '/v1/export', access: 'viewer', maxBodyBytes: 0, handle: everything },
  ];
}

function readRevision(text: string | null, present: number): number {
  if (text === null || text === '') return present;
  const revision = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (revision < 1) throw badRequest(`"${text}" is no revision`, 'use a whole number from 1');
  if (revision <= present) return revision;
  throw notFound(`there is no revision ${revision} yet`, `the present one is ${present}`);
}
