import type { Authenticator } from 'nats';
import { toBusError } from './bus-error.js';
import { nkeys } from './nkeys.js';

/** The credentials of a bus. Functions are called for every connection, so that renewed credentials are used. */
export type BusAuth =
  | { readonly kind: 'jwt'; readonly jwt: string | (() => string); readonly seed: string | (() => string) }
  /** The contents of a `.creds` file, as `nsc` writes it. */
  | { readonly kind: 'creds'; readonly creds: string | (() => string) }
  | { readonly kind: 'userpass'; readonly user: string; readonly pass: string }
  | { readonly kind: 'none' };

/** The client's form of the credentials. It reports errors, because one that throws would end the connection for good. */
export function busAuthenticator(auth: BusAuth, onProblem: (error: unknown) => void): Authenticator {
  return (nonce) => {
    try {
      return authenticate(auth, nonce);
    } catch (error) {
      onProblem(toBusError('the NATS credentials are unusable', error));
      return undefined;
    }
  };
}

function authenticate(auth: BusAuth, nonce: string | undefined): ReturnType<Authenticator> {
  switch (auth.kind) {
    case 'jwt':
      return proveJwt(read(auth.jwt), read(auth.seed), nonce);
    case 'creds': {
      const [jwt, seed] = readCreds(read(auth.creds));
      return proveJwt(jwt, seed, nonce);
    }
    case 'userpass':
      return { user: auth.user, pass: auth.pass };
    case 'none':
      return undefined;
  }
}

/**
 * Omits the field `nkey`, which the client's own authenticator sends: with it, every reload of the server's configuration
 * (for a renewed certificate) would drop the connection (nats-server issue 8606). The JWT names the key anyway.
 */
function proveJwt(jwt: string, seed: string, nonce: string | undefined): ReturnType<Authenticator> {
  const signature = nkeys.fromSeed(Buffer.from(seed.trim())).sign(Buffer.from(nonce ?? ''));
  return { jwt: jwt.trim(), sig: Buffer.from(signature).toString('base64url') };
}

/** The file has the JWT and then the seed, each between lines of dashes. */
function readCreds(creds: string): [jwt: string, seed: string] {
  const blocks = [...creds.matchAll(/-{3,}BEGIN [^\n]*-{3,}\s+([^\s-]\S*)\s+-{3,}END/g)];
  const [jwt, seed] = blocks.map((block) => block[1]);
  if (jwt === undefined || seed === undefined) throw new Error('the .creds file has no JWT or no seed');
  return [jwt, seed];
}

function read(value: string | (() => string)): string {
  return typeof value === 'string' ? value : value();
}
