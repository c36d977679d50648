import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { rename } from 'node:fs/promises';
import { z } from 'zod';
import type { Log } from '../../shared/log.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import type { NodeName } from '../../shared/routing/names.js';

/** What is kept of a token: never the secret itself. */
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
      /** Makes the token usable again, when the join failed for a reason that was not the agent's. */
      readonly release: () => Promise<void>;
    }
  | { readonly ok: false; readonly refusal: TokenRefusal };

/** How long a used or expired token is remembered, so that its refusal can say why. */
const rememberMs = 86_400_000;
const tokenPattern = /^culvert1\.([0-9a-f]{12})\.([0-9a-f]{48})\.([0-9a-f]{64})$/;
/** Compared with when the id is unknown, so that an unknown id takes as long as a wrong secret. */
const nobody = createHash('sha256').update(randomBytes(32)).digest();

/**
 * Join tokens: `culvert1.<id>.<secret>.<hash of the root CA>`, for one node, once, for minutes. Kept in
 * `tokens.json` in the state directory; a token is marked as used on disk before anything is handed out for it.
 */
export class JoinTokens {
  readonly #path: string;
  readonly #nowMs: () => number;
  readonly #tokens: Map<string, StoredToken>;
  /** Writes of the file, one after the other. */
  readonly #writing = new SerialQueue();

  private constructor(init: { path: string; nowMs: () => number; tokens: Map<string, StoredToken> }) {
    this.#path = init.path;
    this.#nowMs = init.nowMs;
    this.#tokens = init.tokens;
  }

  /**
   * A damaged file is moved aside, with an error in the log: tokens live for minutes, and one that is forgotten is refused.
   * Errors: `STATE_READ`.
   */
  static async open(init: { path: string; nowMs: () => number; log: Log }): Promise<JoinTokens> {
    const { path, nowMs, log } = init;
    const text = await readPrivateFile(path);
    const stored = text === undefined ? [] : readTokens(text);
    if (stored === undefined) {
      const movedAside = `${path}.corrupt-${nowMs()}`;
      await rename(path, movedAside);
      log.error(
        { movedAside },
        'the join tokens cannot be read and were moved aside: make those anew that are still needed',
      );
    }
    return new JoinTokens({ path, nowMs, tokens: new Map(stored?.map((token) => [token.id, token])) });
  }

  /** The token's text is returned once and never stored. */
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
      secretHash: sha256(secret).toString('hex'),
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

  /** Takes a token. Of any number of concurrent calls with the same one, one succeeds. Errors: `STATE_WRITE`. */
  async redeem(text: string, node: NodeName): Promise<Redemption> {
    const match = tokenPattern.exec(text);
    if (match === null) return { ok: false, refusal: 'TOKEN_MALFORMED' };
    const [, id = '', secret = ''] = match;
    const token = this.#tokens.get(id);
    const expected = token === undefined ? nobody : Buffer.from(token.secretHash, 'hex');
    const isSecretRight = timingSafeEqual(sha256(secret), expected);
    if (token === undefined || !isSecretRight) return { ok: false, refusal: 'TOKEN_UNKNOWN' };
    if (token.usedAtMs !== null) return { ok: false, refusal: 'TOKEN_USED' };
    if (token.expiresAtMs <= this.#nowMs()) return { ok: false, refusal: 'TOKEN_EXPIRED' };
    if (token.node !== node) return { ok: false, refusal: 'TOKEN_WRONG_NODE' };
    // Marked before the first await: this is what makes it single-use.
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

  /** How many could still be used. */
  get usable(): number {
    const now = this.#nowMs();
    return [...this.#tokens.values()].filter((token) => token.usedAtMs === null && token.expiresAtMs > now).length;
  }

  #save(): Promise<void> {
    const forgetBefore = this.#nowMs() - rememberMs;
    for (const token of this.#tokens.values()) {
      if (Math.max(token.expiresAtMs, token.usedAtMs ?? 0) < forgetBefore) this.#tokens.delete(token.id);
    }
    const write = (): Promise<void> =>
      writePrivateFile(this.#path, `${JSON.stringify([...this.#tokens.values()], null, 1)}\n`);
    return this.#writing.run(write);
  }
}

function readTokens(text: string): StoredToken[] | undefined {
  try {
    return z.array(storedTokenSchema).parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
