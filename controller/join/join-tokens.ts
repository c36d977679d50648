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
  /** Of the root that it pins, hex; absent: made by an earlier version. */
  caHash: z.string().exactOptional(),
});
type StoredToken = z.infer<typeof storedTokenSchema>;

/** `old CA`: it pins a root that signs no longer, so its host would refuse the controller. */
export const tokenStates = ['usable', 'used', 'expired', 'revoked', 'old CA'] as const;
export type TokenState = (typeof tokenStates)[number];

/** A token without its secret. */
export type JoinToken = Pick<StoredToken, 'id' | 'node' | 'createdBy' | 'createdAtMs' | 'expiresAtMs' | 'usedAtMs'> & {
  readonly state: TokenState;
};

export type TokenRefusal =
  | 'TOKEN_MALFORMED'
  | 'TOKEN_UNKNOWN'
  | 'TOKEN_USED'
  | 'TOKEN_EXPIRED'
  | 'TOKEN_WRONG_NODE'
  | 'TOKEN_REVOKED';

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
  readonly #caHash: () => string;
  readonly #tokens: Map<string, StoredToken>;
  /** Runs writes of the file one after the other. */
  readonly #writing = new SerialQueue();

  private constructor(init: {
    file: CredentialFile<StoredToken>;
    nowMs: () => number;
    caHash: () => string;
    tokens: Map<string, StoredToken>;
  }) {
    this.#file = init.file;
    this.#nowMs = init.nowMs;
    this.#caHash = init.caHash;
    this.#tokens = init.tokens;
  }

  /**
   * Moves a damaged file aside and logs an error. Little is lost: tokens live for minutes, and a forgotten one is refused.
   * `caHash`: of the root that signs now. Errors: `STATE_READ`.
   */
  static async open(init: { path: string; nowMs: () => number; caHash: () => string; log: Log }): Promise<JoinTokens> {
    const { file, entries } = await CredentialFile.openOrMoveAside({
      ...init,
      entrySchema: storedTokenSchema,
      what: 'join tokens',
      remedy: 'create the tokens that are still needed again',
    });
    const { nowMs, caHash } = init;
    return new JoinTokens({ file, nowMs, caHash, tokens: new Map(entries.map((token) => [token.id, token])) });
  }

  /** Returns the token's text once; it is never stored. */
  async create(request: {
    readonly node: NodeName;
    readonly ttlMs: number;
    readonly createdBy: string;
  }): Promise<{ token: string; id: string; expiresAtMs: number }> {
    const id = randomBytes(6).toString('hex');
    const secret = randomBytes(24).toString('hex');
    const now = this.#nowMs();
    const expiresAtMs = now + request.ttlMs;
    const { node, createdBy } = request;
    const caHash = this.#caHash();
    this.#tokens.set(id, {
      id,
      secretHash: digestOf(secret).toString('hex'),
      node,
      createdBy,
      createdAtMs: now,
      expiresAtMs,
      usedAtMs: null,
      caHash,
    });
    try {
      await this.#save();
    } catch (error) {
      this.#tokens.delete(id);
      throw error;
    }
    return { token: `culvert1.${id}.${secret}.${caHash}`, id, expiresAtMs };
  }

  /** Every token that is remembered, the newest first; without secrets. */
  list(): JoinToken[] {
    return [...this.#tokens.values()]
      .sort((a, b) => b.createdAtMs - a.createdAtMs)
      .map((token) => {
        const { id, node, createdBy, createdAtMs, expiresAtMs, usedAtMs } = token;
        return { id, node, createdBy, createdAtMs, expiresAtMs, usedAtMs, state: this.#stateOf(token) };
      });
  }

  /** Whether a token with this id is remembered. */
  has(id: string): boolean {
    return this.#tokens.has(id);
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
    const usable = [...this.#tokens.values()].filter(
      (token) => token.node === node && (this.#mayCount(token) || token.usedBy !== undefined),
    );
    const count = usable.filter((token) => this.#mayCount(token)).length;
    if (usable.length > 0) await this.#revoke(usable);
    return count;
  }

  isUsableFor(node: NodeName): boolean {
    return [...this.#tokens.values()].some((token) => token.node === node && this.#mayCount(token));
  }

  /**
   * Uses up a token. `holder`: the hash of the keys that the host joins with; the same keys may use the token again
   * until it expires, because an answer that was lost on the way has helped no one. Of any number of concurrent calls
   * with the same token and different keys, one succeeds. Errors: `STATE_WRITE`.
   */
  async redeem(text: string, node: NodeName, holder?: string): Promise<Redemption> {
    const found = this.#find(text);
    if ('refusal' in found) return { ok: false, refusal: found.refusal };
    const { token } = found;
    const isRepeated = token.usedAtMs !== null && holder !== undefined && token.usedBy === holder;
    const refusal = this.#refusalOf(token, node, isRepeated);
    if (refusal !== null) return { ok: false, refusal };
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

  /** Why the token is worth nothing to any holder; null when it may be redeemed. Costs a look-up, and changes nothing. */
  refusalOf(text: string, node: NodeName): TokenRefusal | null {
    const found = this.#find(text);
    return 'refusal' in found ? found.refusal : this.#refusalOf(found.token, node, found.token.usedBy !== undefined);
  }

  /** How many tokens a host can join with. */
  get usable(): number {
    return [...this.#tokens.values()].filter((token) => this.#stateOf(token) === 'usable').length;
  }

  #stateOf({ usedAtMs, revokedAtMs, expiresAtMs, caHash }: StoredToken): TokenState {
    if (usedAtMs !== null) return 'used';
    if (revokedAtMs !== undefined) return 'revoked';
    if (expiresAtMs <= this.#nowMs()) return 'expired';
    return caHash === undefined || caHash === this.#caHash() ? 'usable' : 'old CA';
  }

  /** The secret of one of an old CA still counts: only its holder's own check refuses it. */
  #mayCount(token: StoredToken): boolean {
    return ['usable', 'old CA'].includes(this.#stateOf(token));
  }

  #find(text: string): { readonly token: StoredToken } | { readonly refusal: TokenRefusal } {
    const match = tokenPattern.exec(text);
    if (match === null) return { refusal: 'TOKEN_MALFORMED' };
    const [, id = '', secret = ''] = match;
    const token = this.#tokens.get(id);
    const expected = token === undefined ? decoyDigest : Buffer.from(token.secretHash, 'hex');
    const isSecretRight = timingSafeEqual(digestOf(secret), expected);
    return token === undefined || !isSecretRight ? { refusal: 'TOKEN_UNKNOWN' } : { token };
  }

  #refusalOf(token: StoredToken, node: NodeName, isRepeated: boolean): TokenRefusal | null {
    if (token.revokedAtMs !== undefined) return 'TOKEN_REVOKED';
    if (token.usedAtMs !== null && !isRepeated) return 'TOKEN_USED';
    if (token.expiresAtMs <= this.#nowMs()) return 'TOKEN_EXPIRED';
    return token.node === node ? null : 'TOKEN_WRONG_NODE';
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
