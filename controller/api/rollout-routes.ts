import type { AgentRegistry } from '../fleet/agent-registry.js';
import { rolloutOf } from '../fleet/rollout-progress.js';
import type { ResourceStore } from '../store/resource-store.js';
import { badRequest, notFound } from './api-error.js';
import type { ExportAnswer, RolloutAnswer } from './api-types.js';
import { exportDocuments } from './export-documents.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Where a revision and the inventory have got to, and all that they consist of. */
export function rolloutRoutes(init: { readonly store: ResourceStore; readonly agents: AgentRegistry }): Route[] {
  const { store, agents } = init;

  const rollout = ({ query }: ApiRequest): ApiAnswer => {
    const present = store.release.state.revision;
    const revision = readRevision(query.get('revision'), present, 'revision');
    const asked = query.get('inventory');
    const sequence = asked === null || asked === '' ? null : readRevision(asked, store.inventory.sequence, 'inventory');
    return { status: 200, body: rolloutOf({ revision, sequence }, agents.list(present)) satisfies RolloutAnswer };
  };

  const everything = async (): Promise<ApiAnswer> => {
    const { state, snapshot } = store.release;
    const { entries, sequence: inventorySequence, documents } = store.inventory;
    const registered = [...documents.values()].flatMap(({ document }) => document ?? []);
    const resources = await exportDocuments([...state.resources.values(), ...registered]);
    const body: ExportAnswer = { revision: state.revision, inventorySequence, snapshot, entries, resources };
    return { status: 200, body };
  };

  return [
    { method: 'GET', path: '/v1/rollout', access: 'viewer', maxBodyBytes: 0, handle: rollout },
    { method: 'GET', path: '/v1/export', access: 'viewer', maxBodyBytes: 0, handle: everything },
  ];
}

function readRevision(text: string | null, present: number, what: 'revision' | 'inventory'): number {
  if (text === null || text === '') return present;
  const revision = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  const name = what === 'revision' ? 'revision' : 'sequence of the inventory';
  if (revision < 1) throw badRequest(`"${text}" is no ${name}`, 'use a whole number from 1');
  if (revision <= present) return revision;
  throw notFound(`there is no ${name} ${revision} yet`, `the present one is ${present}`);
}
