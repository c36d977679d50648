import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { nearestName } from '../../shared/nearest-name.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import { bearerToken, digestOf } from './bearer-token.js';
import { roles, type Principal, type Role } from './role.js';

/** A name as it stands in the history. What the controller itself writes there is no name. */
export const userNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._@-]{0,62}$/, 'use up to 63 of a-z 0-9 . _ @ -, beginning with a letter or digit')
  .refine((name) => !['admin', 'system', 'anonymous'].includes(name), 'this name is reserved');

/** What is kept of a user: never the token itself. */
const storedUserSchema = z.object({
  name: userNameSchema,
  role: z.enum(roles),
  /** SHA-256 of the token, hex. */
  tokenHash: z.string().length(64),
  createdBy: z.string(),
  createdAtMs: z.number(),
  /** Null: until the user is deleted. */
  expiresAtMs: z.number().nullable(),
});
type StoredUser = z.infer<typeof storedUserSchema>;

export type User = Omit<StoredUser, 'tokenHash'>;

const maxUsers = 10_000;

/**
 * Who may use the API besides the administrator of the state directory, each by a token of his own, so that the history
 * says who did what and one can be turned away without the others. Kept in `users.json` in the state directory.
 */
export class UserAccounts {
  readonly #path: string;
  readonly #nowMs: () => number;
  readonly #users: Map<string, StoredUser>;
  readonly #byTokenHash = new Map<string, StoredUser>();
  /** Changes, one after the other: what is in memory is what is on disk. */
  readonly #changing = new SerialQueue();

  private constructor(init: { path: string; nowMs: () => number; users: readonly StoredUser[] }) {
    this.#path = init.path;
    this.#nowMs = init.nowMs;
    this.#users = new Map(init.users.map((user) => [user.name, user]));
    for (const user of init.users) this.#byTokenHash.set(user.tokenHash, user);
  }

  /** A damaged file is moved aside, with an error in the log; nobody in it is let in. Errors: `STATE_READ`. */
  static async open(init: { path: string; nowMs: () => number; log: Log }): Promise<UserAccounts> {
    const { path, nowMs, log } = init;
    const text = await readPrivateFile(path);
    const stored = text === undefined ? [] : readUsers(text);
    if (stored === undefined) {
      const movedAside = `${path}.corrupt-${nowMs()}`;
      await rename(path, movedAside);
      log.error({ movedAside }, 'the users cannot be read and were moved aside: create them anew with admin.yaml');
    }
    return new UserAccounts({ path, nowMs, users: stored ?? [] });
  }

  /** By name. */
  list(): User[] {
    return [...this.#users.values()].map(withoutHash).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * The token is returned once and never stored; `ttlMs` null: it does not expire. Errors: `USER_EXISTS`, `TOO_MANY_USERS`,
   * `STATE_WRITE` (nobody was created).
   */
  create(request: {
    readonly name: string;
    readonly role: Role;
    readonly ttlMs: number | null;
    readonly createdBy: string;
  }): Promise<{ readonly user: User; readonly token: string }> {
    const { name, role, ttlMs, createdBy } = request;
    return this.#changing.run(async () => {
      if (this.#users.has(name)) throw exists(name);
      if (this.#users.size >= maxUsers) throw tooMany();
      const token = `culvert_${randomBytes(32).toString('base64url')}`;
      const createdAtMs = this.#nowMs();
      const user: StoredUser = {
        name,
        role,
        tokenHash: digestOf(token).toString('hex'),
        createdBy,
        createdAtMs,
        expiresAtMs: ttlMs === null ? null : createdAtMs + ttlMs,
      };
      await this.#save([...this.#users.values(), user]);
      this.#users.set(name, user);
      this.#byTokenHash.set(user.tokenHash, user);
      return { user: withoutHash(user), token };
    });
  }

  /** From here on the token is refused. Errors: `NOT_FOUND`, `STATE_WRITE` (the user is still let in). */
  delete(name: string): Promise<void> {
    return this.#changing.run(async () => {
      const user = this.#users.get(name);
      if (user === undefined) throw unknown(name, [...this.#users.keys()]);
      await this.#save([...this.#users.values()].filter((other) => other !== user));
      this.#users.delete(name);
      this.#byTokenHash.delete(user.tokenHash);
    });
  }

  /** Who the value of an Authorization header belongs to; undefined: nobody. Errors: `UNAUTHORIZED` when he has expired. */
  authenticate(authorization: string | undefined): Principal | undefined {
    const user = this.#byTokenHash.get(digestOf(bearerToken(authorization)).toString('hex'));
    if (user === undefined) return undefined;
    if (user.expiresAtMs !== null && user.expiresAtMs <= this.#nowMs()) throw expired(user.name, user.expiresAtMs);
    return { name: user.name, role: user.role };
  }

  #save(users: readonly StoredUser[]): Promise<void> {
    return writePrivateFile(this.#path, `${JSON.stringify(users, null, 1)}\n`);
  }
}

function withoutHash({ name, role, createdBy, createdAtMs, expiresAtMs }: StoredUser): User {
  return { name, role, createdBy, createdAtMs, expiresAtMs };
}

function readUsers(text: string): StoredUser[] | undefined {
  try {
    return z.array(storedUserSchema).parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function exists(name: string): CulvertError {
  return new CulvertError({
    code: 'USER_EXISTS',
    message: `there is a user ${name} already`,
    hint: `delete the old one first, whose token is refused then: culvert user delete ${name}`,
  });
}

function tooMany(): CulvertError {
  return new CulvertError({
    code: 'TOO_MANY_USERS',
    message: `there are ${maxUsers} users already`,
    hint: 'delete those that are not needed: culvert user list',
  });
}

function unknown(name: string, known: readonly string[]): CulvertError {
  const nearest = nearestName(name, known);
  return new CulvertError({
    code: 'NOT_FOUND',
    message: `there is no user ${name}`,
    hint: nearest === undefined ? 'list them: culvert user list' : `did you mean ${nearest}?`,
  });
}

function expired(name: string, expiresAtMs: number): CulvertError {
  return new CulvertError({
    code: 'UNAUTHORIZED',
    message: `the credential of ${name} expired at ${new Date(expiresAtMs).toISOString()}`,
    hint: `ask an administrator for a new one: culvert user delete ${name}, then culvert user create ${name}`,
  });
}
