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
const ttlMs = z
  .int()
  .min(1000)
  .max(10 * yearMs, 'must be 10 years at most')
  .optional();
const userSchema = z.strictObject({
  name: userNameSchema,
  role: z.enum(roles),
  ttlMs,
  namespaces: z.array(namespaceName).min(1).max(100).optional(),
  tiers: z.array(z.enum(tiers)).min(1).optional(),
  breakGlass: z.boolean().optional(),
  deleteWorkloads: z.boolean().optional(),
});

const renewalSchema = z.strictObject({ ttlMs });

/** What a new user may change. Breaking glass is an administrator's right, and of the editors that are given it. */
function scopeOf(
  role: Role,
  {
    namespaces,
    tiers: ofTiers,
    breakGlass,
    deleteWorkloads,
  }: Pick<z.infer<typeof userSchema>, 'namespaces' | 'tiers' | 'breakGlass' | 'deleteWorkloads'>,
): Scope {
  if (role === 'editor') {
    return {
      namespaces: namespaces ?? null,
      tiers: ofTiers ?? null,
      mayBreakGlass: breakGlass ?? false,
      mayDeleteWorkloads: deleteWorkloads ?? false,
    };
  }
  if ([namespaces, ofTiers, breakGlass, deleteWorkloads].some((given) => given !== undefined)) {
    const hint = 'namespaces, tiers, breakGlass and deleteWorkloads are for the role editor';
    throw badRequest(`the role ${role} has no scope`, hint);
  }
  return { namespaces: null, tiers: null, mayBreakGlass: role === 'admin', mayDeleteWorkloads: role === 'admin' };
}

/** Routes for administrators to manage the users of the API. */
export function userRoutes({ users }: { readonly users: UserAccounts }): Route[] {
  const create = async ({ body, subject, note, begin }: ApiRequest): Promise<ApiAnswer> => {
    const { name, role, ttlMs: lifetimeMs = null, ...wanted } = readJson(userSchema, body);
    const scope = scopeOf(role, wanted);
    note({ detail: { role, scope: describeScope(scope) } });
    users.assertNew(name);
    await begin();
    const { user, token } = await users.create({ name, role, scope, ttlMs: lifetimeMs, createdBy: subject });
    return { status: 201, body: { ...toAnswer(user), token } satisfies UserCreatedAnswer };
  };
  const renew = async ({ params, body, begin }: ApiRequest): Promise<ApiAnswer> => {
    const name = params['name'] ?? '';
    const { ttlMs: lifetimeMs = null } = readJson(renewalSchema, body);
    users.endOfRenewed(name, lifetimeMs);
    await begin();
    const { user, token } = await users.renew(name, lifetimeMs);
    return { status: 200, body: { ...toAnswer(user), token } satisfies UserCreatedAnswer };
  };
  const remove = async ({ params, begin }: ApiRequest): Promise<ApiAnswer> => {
    const name = params['name'] ?? '';
    users.assertKnown(name);
    await begin();
    await users.delete(name);
    return { status: 200, body: {} };
  };
  const list = (): ApiAnswer => ({ status: 200, body: users.list().map(toAnswer) });
  return [
    { method: 'GET', path: '/v1/users', access: 'admin', maxBodyBytes: 0, handle: list },
    {
      method: 'POST',
      path: '/v1/users',
      access: 'admin',
      audit: { action: 'user.create', target: ({ body }) => nameIn(body, 'name'), beginsLate: true },
      maxBodyBytes: 16_384,
      handle: create,
    },
    {
      method: 'POST',
      path: '/v1/users/:name/token',
      access: 'admin',
      audit: { action: 'user.renew', target: ({ params }) => nameOr(params['name'], null), beginsLate: true },
      maxBodyBytes: 4096,
      handle: renew,
    },
    {
      method: 'DELETE',
      path: '/v1/users/:name',
      access: 'admin',
      audit: { action: 'user.delete', target: ({ params }) => nameOr(params['name'], null), beginsLate: true },
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
    deleteWorkloads: scope.mayDeleteWorkloads,
    createdBy,
    createdAt: new Date(createdAtMs).toISOString(),
    expiresAt: expiresAtMs === null ? null : new Date(expiresAtMs).toISOString(),
  };
}
