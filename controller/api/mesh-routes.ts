import { z } from 'zod';
import { nodeName } from '../../shared/wire/requests.js';
import { version } from '../../shared/version.js';
import type { MeshCa } from '../ca/mesh-ca.js';
import type { JoinTokens } from '../join/join-tokens.js';
import type { AgentRegistry } from '../fleet/agent-registry.js';
import type { ResourceStore } from '../store/resource-store.js';
import { badRequest } from './api-error.js';
import type { PendingTask, StatusAnswer, TokenAnswer } from './api-types.js';
import { explain } from './explain.js';
import { breakGlassRules, MeshWarnings } from '../fleet/mesh-warnings.js';
import { readJson, readPort } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

const dayMs = 86_400_000;
const tokenSchema = z.strictObject({
  node: nodeName,
  ttlMs: z
    .int()
    .min(1000)
    .max(7 * dayMs)
    .optional(),
});

/** Status and explanations of the mesh as a whole, and join tokens. */
export function meshRoutes(init: {
  readonly store: ResourceStore;
  readonly agents: AgentRegistry;
  readonly ca: MeshCa;
  readonly tokens: JoinTokens;
  readonly tokenTtlMs: number;
  readonly trustDomain: string;
  readonly startedAtMs: number;
  readonly nowMs: () => number;
  readonly pending: () => readonly PendingTask[];
}): Route[] {
  const { store, agents, ca, tokens, nowMs } = init;

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
    const body: StatusAnswer = {
      controller: {
        version,
        trustDomain: init.trustDomain,
        startedAt: new Date(init.startedAtMs).toISOString(),
        pending: init.pending().map((task) => task.name),
        issuingCaNotAfter: new Date(ca.issuingNotAfterMs).toISOString(),
      },
      revision,
      inventorySequence: store.inventory.sequence,
      appliedAt: createdAt,
      appliedBy: createdBy,
      agents: agents.list(revision),
      warnings: warnings.of(store, nowMs()),
      breakGlass: breakGlassRules(store.release, nowMs()),
    };
    return { status: 200, body };
  };

  const createToken = async ({ body, subject }: ApiRequest): Promise<ApiAnswer> => {
    const { node, ttlMs = init.tokenTtlMs } = readJson(tokenSchema, body);
    const { token, expiresAtMs } = await tokens.create({ node, ttlMs, createdBy: subject, caHash: ca.rootHash });
    return { status: 201, body: { token, node, expiresAtMs } satisfies TokenAnswer };
  };

  return [
    { method: 'GET', path: '/v1/why', access: 'viewer', maxBodyBytes: 0, handle: why },
    { method: 'GET', path: '/v1/status', access: 'viewer', maxBodyBytes: 0, handle: status },
    { method: 'POST', path: '/v1/tokens', access: 'admin', maxBodyBytes: 4096, handle: createToken },
  ];
}
