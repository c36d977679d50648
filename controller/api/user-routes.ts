import { z } from 'zod';
import { tiers } from '../../shared/policy/snapshot.js';
import { roles, type Role } from '../access/role.js';
import { describeScope, type Scope } from '../access/scope.js';
import { namespaceName, userNameSchema, type User, type UserAccounts } from '../access/user-accounts.js';
import type { UserAnswer, UserCreatedAnswer } from './api-types.js';
import { badRequest } from './api-error.js';
import { nameIn, nameOr, readJson } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

const yearMs = 366 * 86_400_000;
const userSchema = z.strictObject({
  name: userNameSchema,
  role: z.enum(roles),
  ttlMs: z
    .int()
    .min(1000)
    .max(10 * yearMs, 'must be 10 years at most')
    .optional(),
  namespaces: z.array(namespaceName).min(1).max(100).optional(),
  tiers: z.array(z.enum(tiers)).min(1).optional(),
  breakGlass: z.boolean().optional(),
});

/** What a new user may change. Breaking glass is an administrator's right, and of the editors that are given it. */
function scopeOf(
  role: Role,
  { namespaces, tiers: ofTiers, breakGlass }: Pick<z.infer<typeof userSchema>, 'namespaces' | 'tiers' | 'breakGlass'>,
): Scope {
  if (role === 'editor') {
    return { namespaces: namespaces ?? null, tiers: ofTiers ?? null, mayBreakGlass: breakGlass ?? false };
  }
  if ([namespaces, ofTiers, breakGlass].some((given) => given !== undefined)) {
    throw badRequest(`the role ${role} has no scope`, 'namespaces, tiers and breakGlass are for the role editor');
  }
  return { namespaces: null, tiers: null, mayBreakGlass: role === 'admin' };
}

/** Routes for administrators to manage the users of the API. */
export function userRoutes({ users }: { readonly users: UserAccounts }): Route[] {
  const create = async ({ body, subject, note }: ApiRequest): Promise<ApiAnswer> => {
    const { name, role, ttlMs = null, ...wanted } = readJson(userSchema, body);
    const scope = scopeOf(role, wanted);
    note({ detail: { role, scope: describeScope(scope) } });
    const { user, token } = await users.create({ name, role, scope, ttlMs, createdBy: subject });
    return { status: 201, body: { ...toAnswer(user), token } satisfies UserCreatedAnswer };
  };
  const remove = async ({ params }: ApiRequest): Promise<ApiAnswer> => {
    await users.delete(params['name'] ?? '');
    return { status: 200, body: {} };
  };
  const list = (): ApiAnswer => ({ status: 200, body: users.list().map(toAnswer) });
  return [
    { method: 'GET', path: '/v1/users', access: 'admin', maxBodyBytes: 0, handle: list },
    {
      method: 'POST',
      path: '/v1/users',
      access: 'admin',
      audit: { action: 'user.create', target: ({ body }) => nameIn(body, 'name') },
      maxBodyBytes: 16_384,
      handle: create,
    },
    {
      method: 'DELETE',
      path: '/v1/users/:name',
      access: 'admin',
      audit: { action: 'user.delete', target: ({ params }) => nameOr(params['name'], null) },
      maxBodyBytes: 0,
      handle: remove,
    },
  ];
}

function toAnswer({ name, role, scope, createdBy, createdAtMs, expiresAtMs }: User): UserAnswer {
  return {
    name,
    role,
    namespaces: scope.namespaces,
    tiers: scope.tiers,
    breakGlass: scope.mayBreakGlass,
    createdBy,
    createdAt: new Date(createdAtMs).toISOString(),
    expiresAt: expiresAtMs === null ? null : new Date(expiresAtMs).toISOString(),
  };
}
