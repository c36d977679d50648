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
});
type StoredToken = z.infer<typeof storedTokenSchema>;

export type TokenRefusal = 'TOKEN_MALFORMED' | 'TOKEN_UNKNOWN' | 'TOKEN_USED' | 'TOKEN_EXPIRED' | 'TOKEN_WRONG_NODE';

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
    const { file, entries } = await CredentialFile.open({
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

  /** Uses up a token. Of any number of concurrent calls with the same token, one succeeds. Errors: `STATE_WRITE`. */
  async redeem(text: string, node: NodeName): Promise<Redemption> {
    const match = tokenPattern.exec(text);
    if (match === null) return { ok: false, refusal: 'TOKEN_MALFORMED' };
    const [, id = '', secret = ''] = match;
    const token = this.#tokens.get(id);
    const expected = token === undefined ? decoyDigest : Buffer.from(token.secretHash, 'hex');
    const isSecretRight = timingSafeEqual(digestOf(secret), expected);
    if (token === undefined || !isSecretRight) return { ok: false, refusal: 'TOKEN_UNKNOWN' };
    if (token.usedAtMs !== null) return { ok: false, refusal: 'TOKEN_USED' };
    if (token.expiresAtMs <= this.#nowMs()) return { ok: false, refusal: 'TOKEN_EXPIRED' };
    if (token.node !== node) return { ok: false, refusal: 'TOKEN_WRONG_NODE' };
    // Marking it before the first await is what makes it single-use.
    token.usedAtMs = this.#nowMs();
    try {
      await this.#save();
    } catch (error) {
      token.usedAtMs = null;
      throw error;
    }
    return {
      ok: true,
      release: async () => {
        token.usedAtMs = null;
        await this.#save();
      },
    };
  }

  /** How many tokens are neither used nor expired. */
  get usable(): number {
    const now = this.#nowMs();
    return [...this.#tokens.values()].filter((token) => token.usedAtMs === null && token.expiresAtMs > now).length;
  }

  #save(): Promise<void> {
    const forgetBefore = this.#nowMs() - rememberMs;
    for (const token of this.#tokens.values()) {
      if (Math.max(token.expiresAtMs, token.usedAtMs ?? 0) < forgetBefore) this.#tokens.delete(token.id);
    }
    return this.#writing.run(() => this.#file.write([...this.#tokens.values()]));
  }
}
