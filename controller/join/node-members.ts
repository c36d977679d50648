import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { NodeName } from '../../shared/routing/names.js';
import { nodeName } from '../../shared/wire/requests.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import { CredentialFile } from '../access/credential-file.js';

const expiringSchema = z.object({ id: z.string(), expiresAtMs: z.number() });

/** What was issued to one node. */
const memberSchema = z.object({
  node: nodeName,
  /** Public keys of its NATS users. */
  users: z.array(expiringSchema),
  /** When it was removed last; null: never. */
  removedAtMs: z.number().nullable(),
  /** Serials of the node certificates that were issued since it was removed. Only these prove a node that was removed. */
  serials: z.array(expiringSchema),
  /** NATS users that are revoked. */
  revoked: z.array(expiringSchema.extend({ revokedAtMs: z.number() })),
});
type Member = z.infer<typeof memberSchema>;

/** A node that renews with ever new keys must not grow the file without end. */
const maxUsers = 256;
const maxSerials = 64;

/** A NATS user whose tokens from before `revokedAtMs` no longer count. */
export type RevokedUser = { readonly publicKey: string; readonly revokedAtMs: number };

/**
 * Who is a member and who was removed: `nodes.json` in the state directory. A removal stays in force across restarts, until
 * the node joins again with a new token; its earlier credentials are never accepted again.
 */
export class NodeMembers {
  readonly #file: CredentialFile<Member>;
  readonly #nowMs: () => number;
  readonly #members: Map<NodeName, Member>;
  readonly #writing = new SerialQueue();

  private constructor(init: { file: CredentialFile<Member>; nowMs: () => number; members: Map<NodeName, Member> }) {
    this.#file = init.file;
    this.#nowMs = init.nowMs;
    this.#members = init.members;
  }

  /** Errors: `STATE_READ`. */
  static async open(init: { path: string; nowMs: () => number; log: Log }): Promise<NodeMembers> {
    const { file, entries } = await CredentialFile.open({
      ...init,
      entrySchema: memberSchema,
      what: 'nodes',
      remedy: 'remove the nodes again that were removed: culvert node remove NODE',
    });
    return new NodeMembers({ file, nowMs: init.nowMs, members: new Map(entries.map((entry) => [entry.node, entry])) });
  }

  /** Notes a credential before it is handed out. Errors: `STATE_WRITE`, `TOO_MANY_CREDENTIALS`. */
  async noteIssued(issued: {
    readonly node: NodeName;
    readonly natsUserPublicKey: string;
    readonly serial: string;
    readonly notAfterMs: number;
  }): Promise<void> {
    const { node, natsUserPublicKey, serial, notAfterMs: expiresAtMs } = issued;
    const before = this.#members.get(node) ?? { node, users: [], removedAtMs: null, serials: [], revoked: [] };
    const isKnownUser = before.users.some(({ id }) => id === natsUserPublicKey);
    const users = withEntry(before.users, { id: natsUserPublicKey, expiresAtMs }, this.#nowMs());
    // Dropping one would leave a credential that a removal cannot revoke.
    if (users.length > maxUsers) throw tooManyUsers(node);
    // A node that was never removed may prove itself with any certificate, so its serials need no write.
    const isBarred = before.removedAtMs !== null;
    const serials = isBarred
      ? withEntry(before.serials, { id: serial, expiresAtMs }, this.#nowMs()).slice(-maxSerials)
      : before.serials;
    const after = { ...before, users, serials };
    if (isKnownUser && !isBarred) this.#members.set(node, after);
    else await this.#replace(node, after);
  }

  /** From now on no credential that the node holds proves it. Errors: `STATE_WRITE`; then nothing has changed. */
  async remove(node: NodeName): Promise<{ readonly users: readonly string[] }> {
    const before = this.#members.get(node);
    const now = this.#nowMs();
    const users = before?.users ?? [];
    const revoked = [...(before?.revoked ?? []), ...users.map((user) => ({ ...user, revokedAtMs: now }))];
    await this.#replace(node, {
      node,
      users: [],
      removedAtMs: now,
      serials: [],
      revoked: revoked.filter(({ expiresAtMs }) => expiresAtMs > now),
    });
    return { users: users.map(({ id }) => id) };
  }

  has(node: NodeName): boolean {
    const member = this.#members.get(node);
    return member !== undefined && !isOut(member);
  }

  /** It was removed and has not joined again. */
  isRemoved(node: NodeName): boolean {
    const member = this.#members.get(node);
    return member !== undefined && isOut(member);
  }

  /** Whether a node certificate with this serial was taken away from the node. */
  isRevoked(node: NodeName, serial: string): boolean {
    const member = this.#members.get(node);
    if (member === undefined || member.removedAtMs === null) return false;
    return !member.serials.some(({ id }) => id === serial);
  }

  /** NATS users whose tokens would still be valid. */
  get revokedUsers(): RevokedUser[] {
    const now = this.#nowMs();
    return [...this.#members.values()].flatMap(({ revoked }) =>
      revoked
        .filter(({ expiresAtMs }) => expiresAtMs > now)
        .map(({ id, revokedAtMs }) => ({ publicKey: id, revokedAtMs })),
    );
  }

  /** Calls with the same node must not overlap in what they replace, so memory changes at once and is put back on failure. */
  async #replace(node: NodeName, after: Member): Promise<void> {
    const before = this.#members.get(node);
    this.#members.set(node, after);
    try {
      await this.#writing.run(() => this.#file.write([...this.#members.values()]));
    } catch (error) {
      if (this.#members.get(node) === after) {
        if (before === undefined) this.#members.delete(node);
        else this.#members.set(node, before);
      }
      throw error;
    }
  }
}

function isOut({ removedAtMs, serials }: Member): boolean {
  return removedAtMs !== null && serials.length === 0;
}

function tooManyUsers(node: NodeName): CulvertError {
  return new CulvertError({
    code: 'TOO_MANY_CREDENTIALS',
    message: `the node ${node} holds ${maxUsers} NATS credentials that have not expired`,
    hint: `look at why it joins or renews so often; culvert node remove ${node} revokes all of them`,
  });
}

function withEntry(entries: Member['users'], entry: Member['users'][number], nowMs: number): Member['users'] {
  return [...entries.filter(({ id, expiresAtMs }) => id !== entry.id && expiresAtMs > nowMs), entry];
}
