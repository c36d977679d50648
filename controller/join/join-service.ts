import { createHash } from 'node:crypto';
import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { isUserPublicKey } from '../../shared/bus/nats-accounts.js';
import { sourceOf } from '../../shared/source-of.js';
import { parseCsr } from '../ca/x509/parsed-certificate-request.js';
import { isAccountToken } from '../../shared/wire/account-token.js';
import type { JoinRequest, JoinResponse } from '../../shared/wire/requests.js';
import type { NatsAdvertisement } from '../nats/mesh-nats.js';
import type { BegunRequest } from '../audit-log/audit-trail.js';
import { ClientLines } from '../access/client-lines.js';
import { RateLimiter } from '../access/rate-limiter.js';
import { proveNode, type TokenReviewer } from './account-tokens.js';
import { FailureLimiter } from './failure-limiter.js';
import type { JoinTokens, Redemption, TokenRefusal } from './join-tokens.js';
import type { NodeCredentials } from './node-credentials.js';
import type { NodeName } from '../../shared/routing/names.js';

export type JoinRefusal =
  | TokenRefusal
  | 'ACCOUNT_TOKEN'
  | 'ACCOUNT_TOKEN_NODE'
  | 'TOO_MANY_FAILURES'
  | 'TOO_MANY_JOINS';

/** A secret of 192 bits cannot be guessed anyway; this bounds the noise and the load. */
const maxFailures = 10;
const failureWindowMs = 60_000;
/** Of one node, with a token that counts: each makes a certificate, and writes to the disk. */
const joinRate = { burst: 20, perSecond: 0.1 };
/** Of one source, with tokens that another server has to judge: all nodes of a cluster may come from one address. */
const reviewRate = { burst: 100, perSecond: 2 };

const refusals: Readonly<Record<TokenRefusal, { readonly message: string; readonly hint: string }>> = {
  TOKEN_MALFORMED: {
    message: 'this is not a join token',
    hint: 'use the whole text that culvert token create printed; it begins with culvert1.',
  },
  TOKEN_UNKNOWN: {
    message: 'this controller did not create this token',
    hint: 'create one on this controller: culvert token create --node NODE',
  },
  TOKEN_USED: {
    message: 'this token has already been used',
    hint: 'a token works once; create another: culvert token create --node NODE',
  },
  TOKEN_EXPIRED: {
    message: 'this token has expired',
    hint: 'create another, with a longer --ttl if needed: culvert token create --node NODE',
  },
  TOKEN_REVOKED: {
    message: 'this token was revoked',
    hint: 'create another: culvert token create --node NODE',
  },
  TOKEN_WRONG_NODE: {
    message: 'this token was created for another node',
    hint: 'create one for the name of this node, or start the agent with --node set to the name in the token',
  },
};

/** A token of a service account is not used up. */
const usableAgain: Redemption = { ok: true, release: () => Promise.resolve() };

/**
 * Decides which hosts become nodes of the mesh. Every refusal is counted, and logged with its source as far as
 * {@link ClientLines} go; its hint says what to do.
 */
export class JoinService {
  readonly #tokens: JoinTokens;
  readonly #review: TokenReviewer | null;
  readonly #isRemoved: (node: NodeName) => boolean;
  readonly #credentials: NodeCredentials;
  readonly #nats: () => NatsAdvertisement;
  readonly #trustDomain: string;
  readonly #log: Log;
  readonly #limiter: FailureLimiter;
  readonly #rates = new RateLimiter(joinRate);
  /** By source. */
  readonly #reviews = new RateLimiter(reviewRate);
  readonly #lines = new ClientLines();
  readonly #nowMs: () => number;
  readonly #statement: () => Promise<Uint8Array>;
  readonly #begin: (node: NodeName, source: string) => Promise<BegunRequest>;
  readonly #onJoined: (node: NodeName) => Promise<void>;
  readonly #onRefused: (refusal: JoinRefusal) => void;

  constructor(init: {
    readonly tokens: JoinTokens;
    /** For tokens of service accounts; null: they do not count here. */
    readonly review: TokenReviewer | null;
    readonly isRemoved: (node: NodeName) => boolean;
    readonly credentials: NodeCredentials;
    readonly nats: () => NatsAdvertisement;
    readonly trustDomain: string;
    readonly log: Log;
    readonly nowMs: () => number;
    /** A sealed `NewestStatement` of this moment. */
    readonly statement: () => Promise<Uint8Array>;
    /** Writes a join into the audit log. May throw; then the node does not join, and its token stays usable. */
    readonly begin: (node: NodeName, source: string) => Promise<BegunRequest>;
    /** The node gets its answer afterwards. Never rejects. */
    readonly onJoined: (node: NodeName) => Promise<void>;
    readonly onRefused: (refusal: JoinRefusal) => void;
  }) {
    this.#tokens = init.tokens;
    this.#review = init.review;
    this.#isRemoved = init.isRemoved;
    this.#credentials = init.credentials;
    this.#nats = init.nats;
    this.#trustDomain = init.trustDomain;
    this.#log = init.log;
    this.#limiter = new FailureLimiter({ maxFailures, windowMs: failureWindowMs, nowMs: init.nowMs });
    this.#statement = init.statement;
    this.#nowMs = init.nowMs;
    this.#begin = init.begin;
    this.#onJoined = init.onJoined;
    this.#onRefused = init.onRefused;
  }

  /**
   * Throws CulvertError with a code of {@link JoinRefusal}, or `CSR_INVALID` or `NKEY_INVALID` for a malformed request (the
   * token stays usable), or `NODE_REMOVED` when the node is removed meanwhile.
   */
  async join(request: JoinRequest, source: string): Promise<JoinResponse> {
    const waitMs = this.#limiter.waitMs(source);
    if (waitMs > 0) this.#refuse(request.node, source, tooManyFailures(waitMs), 'TOO_MANY_FAILURES');
    // What costs least comes first: without a token that counts, no signature is verified.
    const isOfAccount = isAccountToken(request.token);
    const worthless = isOfAccount ? null : this.#tokens.refusalOf(request.token, request.node);
    if (worthless !== null) this.#refuseToken(request.node, source, worthless);
    if (isOfAccount) await this.#proveByAccount(request, source);
    if (!this.#rates.take(request.node, this.#nowMs())) {
      this.#refuse(request.node, source, tooManyJoins(request.node), 'TOO_MANY_JOINS');
    }
    // Checked before the token is redeemed: a request that cannot succeed must not use it up.
    const { publicKey } = await parseCsr(request.csrPem);
    if (!isUserPublicKey(request.natsUserPublicKey)) throw invalidUserKey();
    // The request is signed with the first key, so only the host that holds it can repeat a join.
    const holder = createHash('sha256')
      .update(new Uint8Array(publicKey.rawData))
      .update(request.natsUserPublicKey)
      .digest('hex');
    // Before the token is: a removal revokes tokens first, so one that begins later is either seen in them or in this.
    const standing = this.#credentials.standing(request.node);
    const redemption = isOfAccount ? usableAgain : await this.#tokens.redeem(request.token, request.node, holder);
    if (!redemption.ok) this.#refuseToken(request.node, source, redemption.refusal);
    let begun: BegunRequest | undefined;
    try {
      begun = await this.#begin(request.node, source);
      const issued = await this.#credentials.issue({ ...request, standing, by: 'join' });
      const { natsServers, natsServerName, natsCaPem } = this.#nats();
      const newest = Buffer.from(await this.#statement()).toString('base64');
      await this.#onJoined(request.node);
      begun.end({ result: 'done', code: null, detail: {} });
      this.#log.info({ node: request.node, source, version: request.version }, 'a node joined');
      return {
        ...issued,
        natsServers: [...natsServers],
        natsServerName,
        natsCaPem,
        trustDomain: this.#trustDomain,
        newest,
      };
    } catch (error) {
      begun?.end({ result: 'failed', code: error instanceof CulvertError ? error.code : 'INTERNAL', detail: {} });
      await redemption.release();
      throw error;
    }
  }

  async #proveByAccount({ token, node }: JoinRequest, source: string): Promise<void> {
    // Each costs a request to another server.
    if (!this.#reviews.take(sourceOf(source), this.#nowMs())) {
      this.#refuse(node, source, tooManyJoins(node), 'TOO_MANY_JOINS');
    }
    try {
      await proveNode(token, node, { review: this.#review, isRemoved: this.#isRemoved });
    } catch (error) {
      const code = error instanceof CulvertError ? error.code : '';
      if (code !== 'ACCOUNT_TOKEN' && code !== 'ACCOUNT_TOKEN_NODE') throw error;
      this.#limiter.fail(source);
      this.#refuse(node, source, error as CulvertError, code);
    }
  }

  #refuseToken(node: NodeName, source: string, refusal: TokenRefusal): never {
    this.#limiter.fail(source);
    this.#refuse(node, source, new CulvertError({ code: refusal, ...refusals[refusal] }), refusal);
  }

  #refuse(node: NodeName, source: string, error: CulvertError, refusal: JoinRefusal): never {
    this.#onRefused(refusal);
    const level = this.#lines.take(source, this.#nowMs()) ? 'warn' : 'debug';
    this.#log[level]({ node, source, code: refusal }, 'refused a join');
    throw error;
  }
}

function tooManyFailures(waitMs: number): CulvertError {
  return new CulvertError({
    code: 'TOO_MANY_FAILURES',
    message: 'this address sent too many joins with a bad token',
    hint: `try again in ${Math.ceil(waitMs / 1000)} s with a valid token`,
  });
}

function tooManyJoins(node: NodeName): CulvertError {
  return new CulvertError({
    code: 'TOO_MANY_JOINS',
    message: `the node ${node} joins too often`,
    hint: 'try again in a minute',
  });
}

function invalidUserKey(): CulvertError {
  return new CulvertError({
    code: 'NKEY_INVALID',
    message: 'the request has no public key of a NATS user',
    hint: 'run the same version of culvert-agent and culvert-controller',
  });
}
