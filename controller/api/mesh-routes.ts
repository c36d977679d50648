import { version } from '../../shared/version.js';
import type { MeshCa } from '../ca/mesh-ca.js';
import type { AgentRegistry } from '../fleet/agent-registry.js';
import type { NodeMembers } from '../join/node-members.js';
import type { ResourceStore } from '../store/resource-store.js';
import { badRequest } from './api-error.js';
import type { PendingTask, StatusAnswer } from './api-types.js';
import { explain } from './explain.js';
import { breakGlassRules, MeshWarnings } from '../fleet/mesh-warnings.js';
import { readPort } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Status and explanations of the mesh as a whole. */
export function meshRoutes(init: {
  readonly store: ResourceStore;
  readonly agents: AgentRegistry;
  readonly members: NodeMembers;
  readonly ca: MeshCa;
  readonly trustDomain: string;
  readonly startedAtMs: number;
  readonly nowMs: () => number;
  readonly pending: () => readonly PendingTask[];
}): Route[] {
  const { store, agents, members, ca, nowMs } = init;

  const warnings = new MeshWarnings();

  const why = async ({ query }: ApiRequest): Promise<ApiAnswer> => {
    const source = query.get('source');
    const destination = query.get('destination');
    if (source === null || destination === null) {
      throw badRequest(
        'source and destination are both required',
        'ask /v1/why?source=billing/api&destination=billing/db&port=5432',
      );
    }
    const question = { source, destination, port: readPort(query.get('port')) };
    return {
      status: 200,
      body: await explain({ release: store.release, entries: store.inventory.entries }, question, { nowMs }),
    };
  };

  const status = (): ApiAnswer => {
    const { revision, createdAt, createdBy } = store.release.state;
    const pending = init.pending();
    const body: StatusAnswer = {
      controller: {
        version,
        trustDomain: init.trustDomain,
        startedAt: new Date(init.startedAtMs).toISOString(),
        pending: pending.map((task) => task.name),
        pendingDetails: Object.fromEntries(pending.map(({ name, detail }) => [name, detail])),
        issuingCaNotAfter: new Date(ca.issuingNotAfterMs).toISOString(),
      },
      revision,
      inventorySequence: store.inventory.sequence,
      appliedAt: createdAt,
      appliedBy: createdBy,
      agents: agents.list(revision),
      removedNodes: members.removed,
      warnings: warnings.of(store, nowMs()),
      breakGlass: breakGlassRules(store.release, nowMs()),
    };
    return { status: 200, body };
  };

  return [
    { method: 'GET', path: '/v1/why', access: 'viewer', maxBodyBytes: 0, handle: why },
    { method: 'GET', path: '/v1/status', access: 'viewer', maxBodyBytes: 0, handle: status },
  ];
}
