import { CulvertError } from '../../../shared/errors.js';
import { createUser } from '../../../shared/bus/nats-accounts.js';
import { certificateHash, describeCertificate } from '../../../shared/pki/certificate-info.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { splitCertificates } from '../../../shared/pki/pem.js';
import { caResponseSchema, joinResponseSchema } from '../../../shared/wire/requests.js';
import { callController, parseControllerUrl } from './controller-client.js';
import type { NodeCredentials } from '../credentials/node-credentials.js';
import type { NodeName } from '../../../shared/routing/names.js';

/** What a host joins with. An attempt whose answer was lost is repeated with the same keys, which the token then allows. */
export type JoinKeys = {
  readonly csrPem: string;
  readonly privateKeyPem: string;
  readonly natsUser: { readonly publicKey: string; readonly seed: string };
};

export async function createJoinKeys(node: NodeName): Promise<JoinKeys> {
  return { ...(await createCsr({ commonName: node })), natsUser: createUser() };
}

/**
 * Makes this host a member of the mesh, in this order: fetch the CA without trusting it, compare it with the hash in
 * the token, and only then send the secret, over TLS that must end at exactly that CA.
 *
 * Throws CulvertError: `TOKEN_INVALID`, `CA_MISMATCH`, `CONTROLLER_…`, or the controller's code for a refusal.
 */
export async function joinMesh(o: {
  readonly controllerUrl: string;
  readonly token: string;
  readonly node: NodeName;
  readonly keys: JoinKeys;
  readonly version: string;
  readonly signal: AbortSignal;
}): Promise<NodeCredentials> {
  const { caHash } = parseJoinToken(o.token);
  const base = parseControllerUrl(o.controllerUrl);
  const { rootsPem } = await callController({
    url: new URL('/v1/ca', base),
    trust: 'unverified',
    schema: caResponseSchema,
    signal: o.signal,
  });
  const rootPem = splitCertificates(rootsPem).find((pem) => certificateHash(pem) === caHash);
  if (rootPem === undefined || !describeCertificate(rootPem).isCa) {
    throw new CulvertError({
      code: 'CA_MISMATCH',
      message: `the controller at ${base.origin} does not have the CA that the token names; nothing was sent to it`,
      hint: 'check the address, and create the token on the same controller; if both are right, the connection may be intercepted',
    });
  }
  const { csrPem, privateKeyPem, natsUser } = o.keys;
  const answer = await callController({
    url: new URL('/v1/join', base),
    trust: { rootPem },
    body: { token: o.token, node: o.node, csrPem, natsUserPublicKey: natsUser.publicKey, version: o.version },
    schema: joinResponseSchema,
    signal: o.signal,
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
    notAfterMs: answer.notAfterMs,
    obtainedAtMs: Date.now(),
  };
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
