import type { AgentRegistry } from '../fleet/agent-registry.js';
import { positionOf } from '../fleet/agents-ahead.js';
import { earlyAcceptedWorkloads, troubledWorkloads, uncapturedWorkloads } from '../fleet/capture-progress.js';
import type { NodesWithoutAgent } from '../fleet/nodes-without-agent.js';
import { rolloutOf } from '../fleet/rollout-progress.js';
import type { ResourceStore } from '../store/resource-store.js';
import { notFound } from './api-error.js';
import type { ExportAnswer, RolloutAnswer } from './api-types.js';
import { exportDocuments } from './export-documents.js';
import { readCount } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Which agents enforce a revision and a sequence of the inventory, and everything that those in force consist of. */
export function rolloutRoutes(init: {
  readonly store: ResourceStore;
  readonly agents: AgentRegistry;
  readonly nodes: Pick<NodesWithoutAgent, 'hasAgent'>;
}): Route[] {
  const { store, agents, nodes } = init;

  const rollout = ({ query }: ApiRequest): ApiAnswer => {
    const present = store.release.state.revision;
    const revision = readRevision(query.get('revision'), present, 'revision');
    const asked = query.get('inventory');
    const sequence = asked === null || asked === '' ? null : readRevision(asked, store.inventory.sequence, 'inventory');
    const statuses = agents.list(positionOf(store));
    const isCaptureAsked = query.get('capture') === 'true';
    const body = {
      ...rolloutOf({ revision, sequence }, statuses),
      uncaptured: isCaptureAsked ? uncapturedWorkloads(store.inventory.entries, statuses) : null,
      acceptedEarly: isCaptureAsked ? earlyAcceptedWorkloads(store.inventory.entries, statuses) : null,
      troubled: isCaptureAsked ? troubledWorkloads(store.inventory.entries, statuses) : null,
    } satisfies RolloutAnswer;
    return { status: 200, body };
  };

  const everything = async (): Promise<ApiAnswer> => {
    const { state, snapshot } = store.release;
    const { entries, sequence: inventorySequence, documents } = store.inventory;
    const registered = [...documents.values()].flatMap(({ document }) => document ?? []);
    const resources = await exportDocuments([...state.resources.values(), ...registered]);
    const named = new Set(entries.flatMap((entry) => (entry.kind === 'workload' ? (entry.node ?? []) : [])));
    const nodesWithAgent = [...new Set([...agents.nodes(), ...named])].filter((node) => nodes.hasAgent(node)).sort();
    const { revision } = state;
    const body: ExportAnswer = { revision, inventorySequence, snapshot, entries, nodesWithAgent, resources };
    return { status: 200, body };
  };

  return [
    { method: 'GET', path: '/v1/rollout', access: 'viewer', maxBodyBytes: 0, handle: rollout },
    { method: 'GET', path: '/v1/export', access: 'viewer', maxBodyBytes: 0, handle: everything },
  ];
}

function readRevision(text: string | null, present: number, what: 'revision' | 'inventory'): number {
  if (text === null || text === '') return present;
  const name = what === 'revision' ? 'revision' : 'sequence of the inventory';
  const revision = readCount(text, name);
  if (revision <= present) return revision;
  throw notFound(`there is no ${name} ${revision} yet`, `the current one is ${present}`);
}
