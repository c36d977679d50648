import { z } from 'zod';
import { roles } from '../access/role.js';
import { userNameSchema, type User, type UserAccounts } from '../access/user-accounts.js';
import type { UserAnswer, UserCreatedAnswer } from './api-types.js';
import { readJson } from './request-values.js';
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
});

/** Routes for administrators to manage the users of the API. */
export function userRoutes({ users }: { readonly users: UserAccounts }): Route[] {
  const create = async ({ body, subject }: ApiRequest): Promise<ApiAnswer> => {
    const { name, role, ttlMs = null } = readJson(userSchema, body);
    const { user, token } = await users.create({ name, role, ttlMs, createdBy: subject });
    return { status: 201, body: { ...toAnswer(user), token } satisfies UserCreatedAnswer };
  };
  const remove = async ({ params }: ApiRequest): Promise<ApiAnswer> => {
    await users.delete(params['name'] ?? '');
    return { status: 200, body: {} };
  };
  const list = (): ApiAnswer => ({ status: 200, body: users.list().map(toAnswer) });
  return [
    { method: 'GET', path: '/v1/users', access: 'admin', maxBodyBytes: 0, handle: list },
    { method: 'POST', path: '/v1/users', access: 'admin', maxBodyBytes: 4096, handle: create },
    { method: 'DELETE', path: '/v1/users/:name', access: 'admin', maxBodyBytes: 0, handle: remove },
  ];
}

function toAnswer({ name, role, createdBy, createdAtMs, expiresAtMs }: User): UserAnswer {
  return {
    name,
    role,
    createdBy,
    createdAt: new Date(createdAtMs).toISOString(),
    expiresAt: expiresAtMs === null ? null : new Date(expiresAtMs).toISOString(),
  };
}
