import { z } from 'zod';
import { CulvertError } from '../../shared/errors.js';
import type { NodeName } from '../../shared/routing/names.js';
import { nodeName } from '../../shared/wire/requests.js';
import { nodeWentDuring } from '../../shared/wire/sealed-request.js';
import { CredentialFile } from '../access/credential-file.js';

const expiringSchema = z.object({ id: z.string(), expiresAtMs: z.number() });

/** What was issued to one node. */
const memberSchema = z.object({
  node: nodeName,
  /** Public keys of its NATS users. */
  users: z.array(expiringSchema),
  /** When it was removed last, later at each removal; null: never. */
  removedAtMs: z.number().nullable(),
  /** When it joined first after that; null: it has not. */
  rejoinedAtMs: z.number().nullable().default(null),
  /** Serials of the node certificates that were issued since it was removed. Only these prove a node that was removed. */
  serials: z.array(expiringSchema),
  /** Its newest credential allows only its own names of consumers. */
  namesConsumers: z.boolean().default(false),
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
 * Which removal of a node was the last; it differs after each. What was proved or begun at one standing must not be
 * answered at another.
 */
export type Standing = number;

type Change = { readonly node: NodeName; readonly apply: (before: Member) => Member } & {
  readonly done: (member: Member) => void;
  readonly failed: (error: unknown) => void;
};

/**
 * Who is a member and who was removed: `nodes.json` in the state directory. A removal stays in force across restarts, until
 * the node joins again with a new token; its earlier credentials are never accepted again.
 */
export class NodeMembers {
  readonly #file: CredentialFile<Member>;
  readonly #nowMs: () => number;
  readonly #credentialTtlMs: number;
  #members: ReadonlyMap<NodeName, Member>;
  #waiting: Change[] = [];
  #isWriting = false;

  private constructor(
    init: NodeMembersInit & { readonly file: CredentialFile<Member>; readonly members: ReadonlyMap<NodeName, Member> },
  ) {
    this.#file = init.file;
    this.#nowMs = init.nowMs;
    this.#credentialTtlMs = init.credentialTtlMs;
    this.#members = init.members;
  }

  /** Errors: `STATE_READ`, and `NODES_INVALID` for a damaged file: without it every removal would be undone. */
  static async open(init: NodeMembersInit): Promise<NodeMembers> {
    const { file, entries } = await CredentialFile.open({ path: init.path, entrySchema: memberSchema, damaged });
    return new NodeMembers({ ...init, file, members: new Map(entries.map((entry) => [entry.node, entry])) });
  }

  /**
   * Notes a credential on disk before it is handed out. `standing`: of the node when it proved itself, or before its token
   * was redeemed. `by`: only a join makes a node that was removed a member again. Errors: `STATE_WRITE`,
   * `TOO_MANY_CREDENTIALS`, and `NODE_REMOVED` when the node was removed meanwhile.
   */
  async noteIssued(issued: {
    readonly node: NodeName;
    readonly natsUserPublicKey: string;
    readonly serial: string;
    readonly notAfterMs: number;
    readonly standing: Standing;
    readonly by: 'join' | 'renewal';
    readonly namesConsumers: boolean;
  }): Promise<void> {
    const { node, natsUserPublicKey, serial, notAfterMs: expiresAtMs, standing, by, namesConsumers } = issued;
    await this.#change(node, (before) => {
      if (standingOf(before) !== standing || (isOut(before) && by === 'renewal')) throw nodeWentDuring(node);
      const now = this.#nowMs();
      const users = withEntry(before.users, { id: natsUserPublicKey, expiresAtMs }, now);
      // Dropping one would leave a credential that a removal cannot revoke.
      if (users.length > maxUsers) throw tooManyUsers(node);
      // A node that was never removed may prove itself with any certificate.
      if (before.removedAtMs === null) return { ...before, users, namesConsumers };
      const serials = withEntry(before.serials, { id: serial, expiresAtMs }, now).slice(-maxSerials);
      return { ...before, users, namesConsumers, serials, rejoinedAtMs: before.rejoinedAtMs ?? now };
    });
    // A removal may have been written together with this.
    this.assertStanding(node, standing);
  }

  /** From now on no credential that the node holds proves it. Errors: `STATE_WRITE`; then nothing has changed. */
  async remove(node: NodeName): Promise<{ readonly users: readonly string[] }> {
    let users: readonly string[] = [];
    await this.#change(node, (before) => {
      const now = this.#nowMs();
      users = before.users.map(({ id }) => id);
      // All of them, however old they look: a clock that was wrong must not keep one.
      const expiresAtMs = now + this.#credentialTtlMs;
      const fresh = before.users.map((user) => ({
        id: user.id,
        expiresAtMs: Math.max(user.expiresAtMs, expiresAtMs),
        revokedAtMs: now,
      }));
      return {
        node,
        users: [],
        removedAtMs: Math.max(now, standingOf(before) + 1),
        rejoinedAtMs: null,
        serials: [],
        namesConsumers: false,
        revoked: [...before.revoked.filter((user) => user.expiresAtMs > now), ...fresh],
      };
    });
    return { users };
  }

  standing(node: NodeName): Standing {
    const member = this.#members.get(node);
    return member === undefined ? 0 : standingOf(member);
  }

  /** Throws CulvertError `NODE_REMOVED` when the node was removed since it had this standing. */
  assertStanding(node: NodeName, standing: Standing): void {
    if (this.standing(node) !== standing) throw nodeWentDuring(node);
  }

  /** Whether its newest credential allows only its own names of consumers. */
  namesConsumers(node: NodeName): boolean {
    return this.#members.get(node)?.namesConsumers ?? false;
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

  /** Every node for which {@link isRemoved} is true, by name. */
  get removed(): NodeName[] {
    return [...this.#members.keys()].filter((node) => this.isRemoved(node)).sort();
  }

  /** Whether it was no member at that time, because of its last removal. */
  wasOut(node: NodeName, atMs: number): boolean {
    const { removedAtMs, rejoinedAtMs } = this.#members.get(node) ?? { removedAtMs: null, rejoinedAtMs: null };
    return removedAtMs !== null && atMs > removedAtMs && (rejoinedAtMs === null || atMs < rejoinedAtMs);
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

  /** Applies changes one after the other; those that arrive during a write share the next one. */
  async #change(node: NodeName, apply: (before: Member) => Member): Promise<void> {
    const settled = new Promise<Member>((done, failed) => this.#waiting.push({ node, apply, done, failed }));
    if (!this.#isWriting) void this.#writeWaiting();
    await settled;
  }

  /** Never rejects. */
  async #writeWaiting(): Promise<void> {
    this.#isWriting = true;
    while (this.#waiting.length > 0) {
      const changes = this.#waiting;
      this.#waiting = [];
      const after = new Map(this.#members);
      const applied: { readonly change: Change; readonly member: Member }[] = [];
      for (const change of changes) {
        try {
          const member = change.apply(after.get(change.node) ?? newMember(change.node));
          after.set(change.node, member);
          applied.push({ change, member });
        } catch (error) {
          change.failed(error);
        }
      }
      try {
        if (applied.length > 0) await this.#file.write([...after.values()]);
        this.#members = after;
        for (const { change, member } of applied) change.done(member);
      } catch (error) {
        for (const { change } of applied) change.failed(error);
      }
    }
    this.#isWriting = false;
  }
}

export type NodeMembersInit = {
  readonly path: string;
  readonly nowMs: () => number;
  /** How long the credentials of a node last. */
  readonly credentialTtlMs: number;
};

function newMember(node: NodeName): Member {
  return { node, users: [], removedAtMs: null, rejoinedAtMs: null, serials: [], namesConsumers: false, revoked: [] };
}

function standingOf({ removedAtMs }: Member): Standing {
  return removedAtMs ?? 0;
}

function isOut({ removedAtMs, serials }: Member): boolean {
  return removedAtMs !== null && serials.length === 0;
}

function damaged(path: string, cause: unknown): CulvertError {
  return new CulvertError({
    code: 'NODES_INVALID',
    message: `${path} is damaged: without it the nodes that were removed would be members again`,
    hint: 'restore it from a backup. Without one, delete it, start the controller, and remove those nodes again: culvert node remove NODE',
    cause,
  });
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
