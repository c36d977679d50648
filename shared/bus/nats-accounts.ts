import { createHash } from 'node:crypto';
import { CulvertError } from '../errors.js';
import { nkeys } from './nkeys.js';

/**
 * NATS's decentralised authentication: an operator signs accounts, an account signs users, and the server stores neither
 * passwords nor a list of users. Tokens are JWTs of version 2 with the algorithm `ed25519-nkey`.
 * Source: NATS documentation, "JWTs in depth"; the claims are those of github.com/nats-io/jwt/v2.
 */
export type NkeyPair = {
  /** `O…`, `A…` or `U…`. */
  readonly publicKey: string;
  /** `SO…`, `SA…` or `SU…`. Secret: store it in files of mode 0600. */
  readonly seed: string;
};

export type UserPermissions = {
  readonly publish: SubjectPermissions;
  readonly subscribe: SubjectPermissions;
};

/** Subjects with wildcards. An absent `allow` allows everything; `deny` takes precedence. */
export type SubjectPermissions = { readonly allow?: readonly string[]; readonly deny?: readonly string[] };

export function createOperator(): NkeyPair {
  return exportPair(nkeys.createOperator());
}

export function createAccount(): NkeyPair {
  return exportPair(nkeys.createAccount());
}

/** Creates the key of a NATS user. Its owner keeps the seed and sends only the public half to have a JWT minted. */
export function createUser(): NkeyPair {
  return exportPair(nkeys.createUser());
}

/** The key pair of a configured seed. Errors: `NKEY_INVALID`. */
export function nkeyPairFromSeed(seed: string): NkeyPair {
  try {
    return exportPair(nkeys.fromSeed(Buffer.from(seed.trim())));
  } catch (cause) {
    throw new CulvertError({
      code: 'NKEY_INVALID',
      message: 'this is not a NATS seed',
      hint: 'use the seed of the account, which begins with SA: nsc list keys --show-seeds',
      cause,
    });
  }
}

/** Whether the text is the public key of a NATS user, as a joining node sends it. */
export function isUserPublicKey(text: string): boolean {
  try {
    nkeys.fromPublic(text);
    return text.startsWith('U');
  } catch {
    return false;
  }
}

/** A self-signed operator JWT. `systemAccount`: the account in which the server publishes its own events. */
export function mintOperatorJwt(init: {
  readonly operator: NkeyPair;
  readonly name: string;
  readonly systemAccount: string;
}): string {
  return mintJwt(init.operator, {
    sub: init.operator.publicKey,
    name: init.name,
    nats: { type: 'operator', version: 2, system_account: init.systemAccount },
  });
}

/**
 * A reader costs the server memory, and any user who may read a stream can make readers. Some thousand agents have three each in
 * a stream; what one user has too many, the controller removes.
 */
const maxConsumersPerStream = 20_000;

/**
 * `jetStreamBytes`: how much the account may store on disk; -1: no limit; 0: no JetStream. `revoked`: public keys of users
 * whose tokens from before that time (milliseconds since the epoch) no longer count.
 */
export function mintAccountJwt(init: {
  readonly operator: NkeyPair;
  readonly accountPublicKey: string;
  readonly name: string;
  readonly jetStreamBytes: number;
  readonly revoked?: ReadonlyMap<string, number>;
}): string {
  const unlimited = -1;
  const storage =
    init.jetStreamBytes === 0
      ? {}
      : {
          mem_storage: unlimited,
          disk_storage: init.jetStreamBytes,
          streams: unlimited,
          consumer: maxConsumersPerStream,
        };
  return mintJwt(init.operator, {
    sub: init.accountPublicKey,
    name: init.name,
    nats: {
      type: 'account',
      version: 2,
      limits: {
        subs: unlimited,
        data: unlimited,
        payload: unlimited,
        imports: unlimited,
        exports: unlimited,
        wildcards: true,
        conn: unlimited,
        leaf: unlimited,
        ...storage,
      },
      default_permissions: { pub: {}, sub: {} },
      ...(init.revoked === undefined || init.revoked.size === 0 ? {} : { revocations: inSeconds(init.revoked) }),
    },
  });
}

/** Rounded up: a token of the same second is revoked too. A host that joins again has another key. */
function inSeconds(revoked: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...revoked].map(([publicKey, atMs]) => [publicKey, Math.ceil(atMs / 1000)]));
}

/** A user JWT with its permissions. The server drops the connection at `expiresAtMs`; null: never. */
export function mintUserJwt(init: {
  readonly account: NkeyPair;
  readonly userPublicKey: string;
  readonly name: string;
  readonly permissions: UserPermissions;
  readonly expiresAtMs: number | null;
}): string {
  if (!isUserPublicKey(init.userPublicKey)) {
    throw new CulvertError({
      code: 'NKEY_INVALID',
      message: 'this is not the public key of a NATS user',
      hint: 'send the public key that begins with U',
    });
  }
  const { publish, subscribe } = init.permissions;
  return mintJwt(init.account, {
    sub: init.userPublicKey,
    name: init.name,
    ...(init.expiresAtMs === null ? {} : { exp: Math.floor(init.expiresAtMs / 1000) }),
    nats: { type: 'user', version: 2, pub: publish, sub: subscribe, subs: -1, data: -1, payload: -1 },
  });
}

function mintJwt(
  issuer: NkeyPair,
  claims: { readonly sub: string; readonly name: string; readonly exp?: number; readonly nats: object },
): string {
  const issued = { iat: Math.floor(Date.now() / 1000), iss: issuer.publicKey, ...claims };
  // The identifier is a digest of the claims; servers do not check it.
  const jti = createHash('sha512-256').update(JSON.stringify(issued)).digest('hex').toUpperCase();
  const body = `${encodeSegment({ typ: 'JWT', alg: 'ed25519-nkey' })}.${encodeSegment({ ...issued, jti })}`;
  const signature = nkeys.fromSeed(Buffer.from(issuer.seed)).sign(Buffer.from(body));
  return `${body}.${Buffer.from(signature).toString('base64url')}`;
}

function encodeSegment(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function exportPair(pair: ReturnType<typeof nkeys.createUser>): NkeyPair {
  return { publicKey: pair.getPublicKey(), seed: Buffer.from(pair.getSeed()).toString() };
}
