import { randomBytes } from 'node:crypto';

import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { didYouMean } from '../../shared/nearest-name.js';
import { tiers } from '../../shared/policy/snapshot.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import { bearerToken, digestOf } from './bearer-token.js';
import { CredentialFile } from './credential-file.js';
import { roles, type Principal, type Role } from './role.js';
import { everything, type Scope } from './scope.js';

/** A user's name as the history shows it. Names that the controller itself writes there are reserved. */
export const userNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._@-]{0,62}$/, 'use up to 63 of a-z 0-9 . _ @ -, beginning with a letter or digit')
  .refine((name) => !['admin', 'system', 'anonymous'].includes(name), 'this name is reserved');

/** A namespace in the scope of an editor. */
export const namespaceName = z
  .string()
  .regex(/^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/, 'use up to 63 lower-case letters, digits and "-"');

const scopeSchema = z.object({
  namespaces: z.array(namespaceName).readonly().nullable(),
  tiers: z.array(z.enum(tiers)).readonly().nullable(),
  mayBreakGlass: z.boolean(),
  /** Absent: a user of an earlier version. */
  mayDeleteWorkloads: z.boolean().default(false),
});

/** A user on disk: the hash of the token, never the token itself. */
const storedUserSchema = z.object({
  name: userNameSchema,
  role: z.enum(roles),
  /** Absent: a user of an earlier version, who could change everything. */
  scope: scopeSchema.default(everything),
  /** SHA-256 of the token, hex. */
  tokenHash: z.string().length(64),
  createdBy: z.string(),
  createdAtMs: z.number(),
  /** Null: valid until the user is deleted. */
  expiresAtMs: z.number().nullable(),
});
type StoredUser = z.infer<typeof storedUserSchema>;

export type User = Omit<StoredUser, 'tokenHash'>;

const maxUsers = 10_000;

/**
 * The users of the API other than the administrator of the state directory. Each has a token of their own, so the history
 * shows who did what and one user can be removed without affecting the others. Stored in `users.json` in the state
 * directory.
 */
export class UserAccounts {
  readonly #file: CredentialFile<StoredUser>;
  readonly #nowMs: () => number;
  readonly #users: Map<string, StoredUser>;
  readonly #byTokenHash = new Map<string, StoredUser>();
  /** Runs changes one after the other, so memory always matches the disk. */
  readonly #changing = new SerialQueue();

  private constructor(init: { file: CredentialFile<StoredUser>; nowMs: () => number; users: readonly StoredUser[] }) {
    this.#file = init.file;
    this.#nowMs = init.nowMs;
    this.#users = new Map(init.users.map((user) => [user.name, user]));
    for (const user of init.users) this.#byTokenHash.set(user.tokenHash, user);
  }

  /** Moves a damaged file aside and logs an error; its users are refused. Errors: `STATE_READ`. */
  static async open(init: { path: string; nowMs: () => number; log: Log }): Promise<UserAccounts> {
    const remedy = 'create the users again with admin.yaml';
    const { file, entries } = await CredentialFile.openOrMoveAside({
      ...init,
      entrySchema: storedUserSchema,
      what: 'users',
      remedy,
    });
    return new UserAccounts({ file, nowMs: init.nowMs, users: entries });
  }

  /** Sorted by name. */
  list(): User[] {
    return [...this.#users.values()].map(withoutHash).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Errors: `USER_EXISTS`, `TOO_MANY_USERS`. */
  assertNew(name: string): void {
    if (this.#users.has(name)) throw exists(name);
    if (this.#users.size >= maxUsers) throw tooMany();
  }

  /** Errors: `NOT_FOUND`. */
  assertKnown(name: string): void {
    if (!this.#users.has(name)) throw unknown(name, [...this.#users.keys()]);
  }

  /**
   * Returns the token once; it is never stored. `ttlMs` null: it does not expire. Errors: `USER_EXISTS`, `TOO_MANY_USERS`,
   * `STATE_WRITE` (the user was not created).
   */
  create(request: {
    readonly name: string;
    readonly role: Role;
    readonly scope: Scope;
    readonly ttlMs: number | null;
    readonly createdBy: string;
  }): Promise<{ readonly user: User; readonly token: string }> {
    const { name, role, scope, ttlMs, createdBy } = request;
    return this.#changing.run(async () => {
      this.assertNew(name);
      const token = newToken();
      const createdAtMs = this.#nowMs();
      const user: StoredUser = {
        name,
        role,
        scope,
        tokenHash: digestOf(token).toString('hex'),
        createdBy,
        createdAtMs,
        expiresAtMs: ttlMs === null ? null : createdAtMs + ttlMs,
      };
      await this.#file.write([...this.#users.values(), user]);
      this.#users.set(name, user);
      this.#byTokenHash.set(user.tokenHash, user);
      return { user: withoutHash(user), token };
    });
  }

  /**
   * Replaces the token, which is refused from now on, and returns the new one once. `ttlMs` null: the end stays as it is.
   * Errors: `NOT_FOUND`, `USER_EXPIRED` (it needs a `ttlMs`), `STATE_WRITE` (the old token still works).
   */
  renew(name: string, ttlMs: number | null): Promise<{ readonly user: User; readonly token: string }> {
    return this.#changing.run(async () => {
      const { old, expiresAtMs } = this.endOfRenewed(name, ttlMs);
      const token = newToken();
      const user: StoredUser = { ...old, tokenHash: digestOf(token).toString('hex'), expiresAtMs };
      await this.#file.write([...this.#users.values()].map((other) => (other === old ? user : other)));
      this.#users.set(name, user);
      this.#byTokenHash.delete(old.tokenHash);
      this.#byTokenHash.set(user.tokenHash, user);
      return { user: withoutHash(user), token };
    });
  }

  /** The user to renew, and when the new token ends. Errors: `NOT_FOUND`, `USER_EXPIRED`. */
  endOfRenewed(name: string, ttlMs: number | null): { readonly old: StoredUser; readonly expiresAtMs: number | null } {
    const old = this.#users.get(name);
    if (old === undefined) throw unknown(name, [...this.#users.keys()]);
    const nowMs = this.#nowMs();
    const expiresAtMs = ttlMs === null ? old.expiresAtMs : nowMs + ttlMs;
    if (expiresAtMs !== null && expiresAtMs <= nowMs) throw ended(name);
    return { old, expiresAtMs };
  }

  /** Deletes the user and refuses the token from now on. Errors: `NOT_FOUND`, `STATE_WRITE` (the token still works). */
  delete(name: string): Promise<void> {
    return this.#changing.run(async () => {
      const user = this.#users.get(name);
      if (user === undefined) throw unknown(name, [...this.#users.keys()]);
      await this.#file.write([...this.#users.values()].filter((other) => other !== user));
      this.#users.delete(name);
      this.#byTokenHash.delete(user.tokenHash);
    });
  }

  /** The user that an Authorization header belongs to; undefined: unknown. Errors: `UNAUTHORIZED` when it has expired. */
  authenticate(authorization: string | undefined): Principal | undefined {
    const user = this.#byTokenHash.get(digestOf(bearerToken(authorization)).toString('hex'));
    if (user === undefined) return undefined;
    if (user.expiresAtMs !== null && user.expiresAtMs <= this.#nowMs()) throw expired(user.name, user.expiresAtMs);
    return { name: user.name, role: user.role, scope: user.scope };
  }
}

function newToken(): string {
  return `culvert_${randomBytes(32).toString('base64url')}`;
}

function withoutHash({ name, role, scope, createdBy, createdAtMs, expiresAtMs }: StoredUser): User {
  return { name, role, scope, createdBy, createdAtMs, expiresAtMs };
}

function exists(name: string): CulvertError {
  return new CulvertError({
    code: 'USER_EXISTS',
    message: `the user ${name} already exists`,
    hint: `give it a new context file with culvert user renew ${name}, or delete it first: culvert user delete ${name}`,
  });
}

function tooMany(): CulvertError {
  return new CulvertError({
    code: 'TOO_MANY_USERS',
    message: `there are already ${maxUsers} users, the maximum`,
    hint: 'delete users that are not needed: culvert user list',
  });
}

function unknown(name: string, known: readonly string[]): CulvertError {
  return new CulvertError({
    code: 'NOT_FOUND',
    message: `there is no user ${name}`,
    hint: didYouMean(name, known, 'list them: culvert user list'),
  });
}

function ended(name: string): CulvertError {
  return new CulvertError({
    code: 'USER_EXPIRED',
    message: `the time of the user ${name} is over`,
    hint: `say how long it is valid from now on: culvert user renew ${name} --ttl 90d`,
  });
}

function expired(name: string, expiresAtMs: number): CulvertError {
  return new CulvertError({
    code: 'UNAUTHORIZED',
    message: `the credential of ${name} expired at ${new Date(expiresAtMs).toISOString()}`,
    hint: `ask an administrator for a new one: culvert user renew ${name} --ttl 90d`,
  });
}
