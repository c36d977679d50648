import { credsAuthenticator, jwtAuthenticator, type Authenticator } from 'nats';
import { toBusError } from './bus-error.js';

/** How a bus proves who it is. Functions are called at every connection, so that renewed credentials are used. */
export type BusAuth =
  | { readonly kind: 'jwt'; readonly jwt: string | (() => string); readonly seed: string | (() => string) }
  /** The contents of a `.creds` file, as `nsc` writes it. */
  | { readonly kind: 'creds'; readonly creds: string | (() => string) }
  | { readonly kind: 'userpass'; readonly user: string; readonly pass: string }
  | { readonly kind: 'none' };

/** The client's form of it. An authenticator that throws would end the connection for ever, so it reports instead. */
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
      return jwtAuthenticator(read(auth.jwt), Buffer.from(read(auth.seed).trim()))(nonce);
    case 'creds':
      return credsAuthenticator(Buffer.from(read(auth.creds)))(nonce);
    case 'userpass':
      return { user: auth.user, pass: auth.pass };
    case 'none':
      return undefined;
  }
}

function read(value: string | (() => string)): string {
  return typeof value === 'string' ? value : value();
}
