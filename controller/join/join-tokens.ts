import { randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { Log } from '../../shared/log.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import type { NodeName } from '../../shared/routing/names.js';
import { digestOf } from '../access/bearer-token.js';
import { CredentialFile } from '../access/credential-file.js';

/** A token on disk: the hash of its secret, never the secret itself. */
const storedTokenSchema = z.object({
  id: z.string(),
  /** SHA-256 of the secret, hex. */
  secretHash: z.string().length(64),
  node: z.string(),
  createdBy: z.string(),
  createdAtMs: z.number(),
  expiresAtMs: z.number(),
  usedAtMs: z.number().nullable(),
  /** SHA-256 of the keys of the host that used it, hex; absent: not used, or by an earlier version. */
  usedBy: z.string().exactOptional(),
  /** Absent: not revoked. */
  revokedAtMs: z.number().exactOptional(),
});
type StoredToken = z.infer<typeof storedTokenSchema>;

export const tokenStates = ['usable', 'used', 'expired', 'revoked'] as const;
export type TokenState = (typeof tokenStates)[number];

/** A token without its secret. */
export type JoinToken = Pick<StoredToken, 'id' | 'node' | 'createdBy' | 'createdAtMs' | 'expiresAtMs' | 'usedAtMs'> & {
  readonly state: TokenState;
};

export type TokenRefusal =
  'TOKEN_MALFORMED' | 'TOKEN_UNKNOWN' | 'TOKEN_USED' | 'TOKEN_EXPIRED' | 'TOKEN_WRONG_NODE' | 'TOKEN_REVOKED';

export type Redemption =
  | {
      readonly ok: true;
      /** Makes the token usable again, for when the join failed through no fault of the agent. */
      readonly release: () => Promise<void>;
    }
  | { readonly ok: false; readonly refusal: TokenRefusal };

/** How long a used or expired token is kept, so that a refusal can say why. */
const rememberMs = 86_400_000;
const tokenPattern = /^culvert1\.([0-9a-f]{12})\.([0-9a-f]{48})\.([0-9a-f]{64})$/;
/** Compared when the id is unknown, so that an unknown id takes as long as a wrong secret. */
const decoyDigest = digestOf(randomBytes(32).toString('hex'));

/**
 * Join tokens: `culvert1.<id>.<secret>.<hash of the root CA>`. A token is for one node, works once and lives for minutes.
 * Stored in `tokens.json` in the state directory; a token is marked as used on disk before a credential is issued for it.
 */
export class JoinTokens {
  readonly #file: CredentialFile<StoredToken>;
  readonly #nowMs: () => number;
  readonly #tokens: Map<string, StoredToken>;
  /** Runs writes of the file one after the other. */
  readonly #writing = new SerialQueue();

  private constructor(init: {
    file: CredentialFile<StoredToken>;
    nowMs: () => number;
    tokens: Map<string, StoredToken>;
  }) {
    this.#file = init.file;
    this.#nowMs = init.nowMs;
    this.#tokens = init.tokens;
  }

  /**
   * Moves a damaged file aside and logs an error. Little is lost: tokens live for minutes, and a forgotten one is refused.
   * Errors: `STATE_READ`.
   */
  static async open(init: { path: string; nowMs: () => number; log: Log }): Promise<JoinTokens> {
    const { file, entries } = await CredentialFile.openOrMoveAside({
      ...init,
      entrySchema: storedTokenSchema,
      what: 'join tokens',
      remedy: 'create the tokens that are still needed again',
    });
    return new JoinTokens({ file, nowMs: init.nowMs, tokens: new Map(entries.map((token) => [token.id, token])) });
  }

  /** Returns the token's text once; it is never stored. */
  async create(request: {
    readonly node: NodeName;
    readonly ttlMs: number;
    readonly createdBy: string;
    readonly caHash: string;
  }): Promise<{ token: string; id: string; expiresAtMs: number }> {
    const id = randomBytes(6).toString('hex');
    const secret = randomBytes(24).toString('hex');
    const now = this.#nowMs();
    const expiresAtMs = now + request.ttlMs;
    const { node, createdBy } = request;
    this.#tokens.set(id, {
      id,
      secretHash: digestOf(secret).toString('hex'),
      node,
      createdBy,
      createdAtMs: now,
      expiresAtMs,
      usedAtMs: null,
    });
    try {
      await this.#save();
    } catch (error) {
      this.#tokens.delete(id);
      throw error;
    }
    return { token: `culvert1.${id}.${secret}.${request.caHash}`, id, expiresAtMs };
  }

  /** Every token that is remembered, the newest first; without secrets. */
  list(): JoinToken[] {
    const now = this.#nowMs();
    return [...this.#tokens.values()]
      .sort((a, b) => b.createdAtMs - a.createdAtMs)
      .map((token) => {
        const { id, node, createdBy, createdAtMs, expiresAtMs, usedAtMs } = token;
        return { id, node, createdBy, createdAtMs, expiresAtMs, usedAtMs, state: stateOf(token, now) };
      });
  }

  /** Returns false when no token has this id. One that was used stays used. Errors: `STATE_WRITE`. */
  async revoke(id: string): Promise<boolean> {
    const token = this.#tokens.get(id);
    if (token === undefined) return false;
    await this.#revoke([token]);
    return true;
  }

  /** Revokes the usable tokens of a node, and returns how many. Errors: `STATE_WRITE`. */
  async revokeFor(node: NodeName): Promise<number> {
    const now = this.#nowMs();
    const usable = [...this.#tokens.values()].filter(
      (token) => token.node === node && (stateOf(token, now) === 'usable' || token.usedBy !== undefined),
    );
    const count = usable.filter((token) => stateOf(token, now) === 'usable').length;
    if (usable.length > 0) await this.#revoke(usable);
    return count;
  }

  isUsableFor(node: NodeName): boolean {
    const now = this.#nowMs();
    return [...this.#tokens.values()].some((token) => token.node === node && stateOf(token, now) === 'usable');
  }

  /**
   * Uses up a token. `holder`: the hash of the keys that the host joins with; the same keys may use the token again
   * until it expires, because an answer that was lost on the way has helped no one. Of any number of concurrent calls
   * with the same token and different keys, one succeeds. Errors: `STATE_WRITE`.
   */
  async redeem(text: string, node: NodeName, holder?: string): Promise<Redemption> {
    const match = tokenPattern.exec(text);
    if (match === null) return { ok: false, refusal: 'TOKEN_MALFORMED' };
    const [, id = '', secret = ''] = match;
    const token = this.#tokens.get(id);
    const expected = token === undefined ? decoyDigest : Buffer.from(token.secretHash, 'hex');
    const isSecretRight = timingSafeEqual(digestOf(secret), expected);
    if (token === undefined || !isSecretRight) return { ok: false, refusal: 'TOKEN_UNKNOWN' };
    if (token.revokedAtMs !== undefined) return { ok: false, refusal: 'TOKEN_REVOKED' };
    const isRepeated = token.usedAtMs !== null && holder !== undefined && token.usedBy === holder;
    if (token.usedAtMs !== null && !isRepeated) return { ok: false, refusal: 'TOKEN_USED' };
    if (token.expiresAtMs <= this.#nowMs()) return { ok: false, refusal: 'TOKEN_EXPIRED' };
    if (token.node !== node) return { ok: false, refusal: 'TOKEN_WRONG_NODE' };
    if (isRepeated) return { ok: true, release: async () => undefined };
    // Marking it before the first await is what makes it single-use.
    token.usedAtMs = this.#nowMs();
    if (holder !== undefined) token.usedBy = holder;
    const free = (): void => {
      token.usedAtMs = null;
      delete token.usedBy;
    };
    try {
      await this.#save();
    } catch (error) {
      free();
      throw error;
    }
    return {
      ok: true,
      release: async () => {
        free();
        await this.#save();
      },
    };
  }

  /** How many tokens are neither used nor expired. */
  get usable(): number {
    const now = this.#nowMs();
    return [...this.#tokens.values()].filter((token) => stateOf(token, now) === 'usable').length;
  }

  async #revoke(tokens: readonly StoredToken[]): Promise<void> {
    const fresh = tokens.filter(({ revokedAtMs }) => revokedAtMs === undefined);
    for (const token of fresh) token.revokedAtMs = this.#nowMs();
    try {
      await this.#save();
    } catch (error) {
      for (const token of fresh) delete token.revokedAtMs;
      throw error;
    }
  }

  #save(): Promise<void> {
    const forgetBefore = this.#nowMs() - rememberMs;
    for (const token of this.#tokens.values()) {
      if (Math.max(token.expiresAtMs, token.usedAtMs ?? 0) < forgetBefore) this.#tokens.delete(token.id);
    }
    return this.#writing.run(() => this.#file.write([...this.#tokens.values()]));
  }
}

function stateOf({ usedAtMs, revokedAtMs, expiresAtMs }: StoredToken, nowMs: number): TokenState {
  if (usedAtMs !== null) return 'used';
  if (revokedAtMs !== undefined) return 'revoked';
  return expiresAtMs <= nowMs ? 'expired' : 'usable';
}
