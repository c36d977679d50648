import { CulvertError } from '../../../shared/errors.js';
import { createUser } from '../../../shared/bus/nats-accounts.js';
import { certificateHash, describeCertificate } from '../../../shared/pki/certificate-info.js';
import { nodeSpiffeId } from '../../../shared/identity.js';
import { createCsrKey, csrFor } from '../../../shared/pki/certificate-request.js';
import { splitCertificates } from '../../../shared/pki/pem.js';
import { isAccountToken } from '../../../shared/wire/account-token.js';
import { caResponseSchema, joinResponseSchema } from '../../../shared/wire/requests.js';
import { callController, parseControllerUrl } from './controller-client.js';
import type { NodeCredentials } from '../credentials/node-credentials.js';
import type { NodeName } from '../../../shared/routing/names.js';

/** What a host joins with. An attempt whose answer was lost is repeated with the same keys, which the token then allows. */
export type JoinKeys = {
  readonly privateKeyPem: string;
  readonly natsUser: { readonly publicKey: string; readonly seed: string };
};

export async function createJoinKeys(): Promise<JoinKeys> {
  return { privateKeyPem: await createCsrKey(), natsUser: createUser() };
}

/**
 * Makes this host a member of the mesh, in this order: fetch the CA without trusting it, compare it with the hash in
 * the token, and only then send the secret, over TLS that must end at exactly that CA. The token of a service account has no
 * hash, so everything is TLS that must end at `caPem`.
 *
 * Throws CulvertError: `TOKEN_INVALID`, `CA_MISMATCH`, `CA_UNKNOWN`, `CONTROLLER_…`, or the controller's code for a refusal.
 */
export async function joinMesh(o: {
  readonly controllerUrl: string;
  readonly token: string;
  /** Roots of the mesh; null: the token names one. */
  readonly caPem: string | null;
  readonly node: NodeName;
  readonly keys: JoinKeys;
  readonly version: string;
  readonly signal: AbortSignal;
}): Promise<NodeCredentials> {
  const base = parseControllerUrl(o.controllerUrl);
  const { rootPem, trustDomain } = isAccountToken(o.token)
    ? await knownController(base, o.caPem, o.signal)
    : await namedController(base, o);
  const { privateKeyPem, natsUser } = o.keys;
  // A controller of an earlier version does not tell it, and puts the name into the certificate itself.
  const name = trustDomain === undefined ? { commonName: o.node } : { identity: nodeSpiffeId(trustDomain, o.node) };
  const csrPem = csrFor(privateKeyPem, name);
  const answer = await callController({
    url: new URL('/v1/join', base),
    trust: { rootPem },
    body: {
      token: o.token,
      node: o.node,
      csrPem,
      natsUserPublicKey: natsUser.publicKey,
      version: o.version,
      namesConsumers: true,
    },
    schema: joinResponseSchema,
    signal: o.signal,
  }).catch((error: unknown) => {
    throw isOfOtherRoot(error) ? oldRoot(base, o.node, error) : error;
  });
  return {
    node: o.node,
    trustDomain: answer.trustDomain,
    nodeKeyPem: privateKeyPem,
    nodeCertificatePem: answer.nodeCertificatePem,
    natsSeed: natsUser.seed,
    natsUserPublicKey: natsUser.publicKey,
    natsJwt: answer.natsJwt,
    natsServers: answer.natsServers,
    natsServerName: answer.natsServerName,
    natsCaPem: answer.natsCaPem,
    rootsPem: answer.rootsPem,
    signingPublicKeys: answer.signingPublicKeys,
    controllerUrl: base.origin,
    ...(answer.consumerPrefix === undefined ? {} : { consumerPrefix: answer.consumerPrefix }),
    ...(answer.newest === undefined ? {} : { newest: answer.newest }),
    notAfterMs: answer.notAfterMs,
    obtainedAtMs: Date.now(),
  };
}

type Controller = {
  /** At which its TLS must end, PEM. */
  readonly rootPem: string;
  /** Undefined: a controller of an earlier version does not say. */
  readonly trustDomain: string | undefined;
};

/** The controller that has the CA which the token names. */
async function namedController(
  base: URL,
  { token, node, signal }: { readonly token: string; readonly node: NodeName; readonly signal: AbortSignal },
): Promise<Controller> {
  const { caHash } = parseJoinToken(token);
  const url = new URL('/v1/ca', base);
  const { rootsPem, trustDomain } = await callController({
    url,
    trust: 'unverified',
    schema: caResponseSchema,
    signal,
  });
  const rootPem = splitCertificates(rootsPem).find((pem) => certificateHash(pem) === caHash);
  if (rootPem !== undefined && describeCertificate(rootPem).isCa) return { rootPem, trustDomain };
  throw new CulvertError({
    code: 'CA_MISMATCH',
    message: `the controller at ${base.origin} does not have the CA that the token names; nothing was sent to it`,
    hint: `check the address; if the CA was rotated since the token was made, make a new one: ${newToken(node)}; if neither is it, the connection may be intercepted`,
  });
}

/** The controller that proves itself with a CA which is known here. */
async function knownController(base: URL, caPem: string | null, signal: AbortSignal): Promise<Controller> {
  if (caPem === null || splitCertificates(caPem).length === 0) {
    throw new CulvertError({
      code: 'CA_UNKNOWN',
      message: 'the token of a service account names no CA, and there is no file with the roots of the mesh',
      hint: 'pass one with --controller-ca-file; the controller writes them into the ConfigMap culvert-ca',
    });
  }
  const url = new URL('/v1/ca', base);
  const { trustDomain } = await callController({ url, trust: { rootPem: caPem }, schema: caResponseSchema, signal });
  return { rootPem: caPem, trustDomain };
}

/** The controller still shows the root of the token, but proves itself with another one. */
function isOfOtherRoot(error: unknown): boolean {
  const cause = error instanceof CulvertError && error.code === 'CONTROLLER_UNTRUSTED' ? error.cause : null;
  return (
    cause instanceof Error &&
    'code' in cause &&
    /SELF_SIGNED_CERT|UNABLE_TO_|SIGNATURE_FAILURE/.test(String(cause.code))
  );
}

function oldRoot({ origin }: URL, node: NodeName, cause: unknown): CulvertError {
  return new CulvertError({
    code: 'CA_MISMATCH',
    message: `the controller at ${origin} does not prove itself with the CA that the token names; the token was not sent`,
    hint: `if the CA was rotated since the token was made, make a new one: ${newToken(node)}; if not, the connection may be intercepted`,
    cause,
  });
}

function newToken(node: NodeName): string {
  return `culvert token create --node ${node}`;
}

type JoinToken = {
  /** SHA-256 of the root's public key, hex: the only thing that is trusted before the join. */
  readonly caHash: string;
};

/** Reads `culvert1.<id>.<secret>.<ca hash>`. Throws CulvertError `TOKEN_INVALID`, which never contains the token. */
function parseJoinToken(text: string): JoinToken {
  const match = /^culvert1\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.([0-9a-f]{64})$/.exec(text);
  const [, id, caHash] = match ?? [];
  if (id === undefined || caHash === undefined) {
    throw new CulvertError({
      code: 'TOKEN_INVALID',
      message: 'this is not a join token',
      hint: 'create one with "culvert token create --node NAME" and pass the whole line',
    });
  }
  return { caHash };
}
