import { z } from 'zod';
import { nodeName } from '../../shared/wire/requests.js';
import type { JoinToken, JoinTokens } from '../join/join-tokens.js';
import { notFound } from './api-error.js';
import type { TokenAnswer, TokenItem } from './api-types.js';
import { nameIn, readJson } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

const dayMs = 86_400_000;
const tokenSchema = z.strictObject({
  node: nodeName,
  ttlMs: z
    .int()
    .min(1000)
    .max(7 * dayMs, 'must be 7 days (604800000 ms) at most')
    .optional(),
});

/** Routes for administrators to manage join tokens. */
export function tokenRoutes(init: {
  readonly tokens: JoinTokens;
  readonly tokenTtlMs: number;
  /** Where hosts reach the controller. */
  readonly controllerUrl: () => string;
}): Route[] {
  const { tokens, tokenTtlMs, controllerUrl } = init;
  const create = async ({ body, subject, note, begin }: ApiRequest): Promise<ApiAnswer> => {
    const { node, ttlMs = tokenTtlMs } = readJson(tokenSchema, body);
    await begin();
    const created = await tokens.create({ node, ttlMs, createdBy: subject });
    note({ detail: { id: created.id } });
    return { status: 201, body: { ...created, node, controller: controllerUrl() } satisfies TokenAnswer };
  };
  const revoke = async ({ params, begin }: ApiRequest): Promise<ApiAnswer> => {
    const id = params['id'] ?? '';
    const missing = notFound(`there is no token ${id}`, 'list them: culvert token list');
    if (!tokens.has(id)) throw missing;
    await begin();
    if (await tokens.revoke(id)) return { status: 200, body: {} };
    throw missing;
  };
  const list = (): ApiAnswer => ({ status: 200, body: tokens.list().map(toItem) });
  return [
    { method: 'GET', path: '/v1/tokens', access: 'admin', maxBodyBytes: 0, handle: list },
    {
      method: 'POST',
      path: '/v1/tokens',
      access: 'admin',
      audit: { action: 'token.create', target: ({ body }) => nameIn(body, 'node'), beginsLate: true },
      maxBodyBytes: 4096,
      handle: create,
    },
    {
      method: 'DELETE',
      path: '/v1/tokens/:id',
      access: 'admin',
      // Whole tokens are given by mistake.
      audit: { action: 'token.revoke', target: ({ params }) => tokenIdOf(params['id']), beginsLate: true },
      maxBodyBytes: 0,
      handle: revoke,
    },
  ];
}

/** Null when it is not the id of a token. */
function tokenIdOf(text = ''): string | null {
  return /^[0-9a-f]{1,16}$/.test(text) ? text : null;
}

function toItem({ id, node, state, createdBy, createdAtMs, expiresAtMs, usedAtMs }: JoinToken): TokenItem {
  return {
    id,
    node,
    state,
    createdBy,
    createdAt: new Date(createdAtMs).toISOString(),
    expiresAt: new Date(expiresAtMs).toISOString(),
    usedAt: usedAtMs === null ? null : new Date(usedAtMs).toISOString(),
  };
}
