import { certificateHash, describeCertificate } from '../../shared/pki/certificate-info.js';
import { rootsNonce, rootsQuestion } from '../../shared/wire/requests.js';
import { sealAnswer } from '../../shared/wire/sealed-answer.js';
import type { CertificateIssuer, MeshTrust } from '../ca/certificate-issuer.js';
import type { SpiffeBundle } from '../ca/spiffe-bundle.js';
import { notProving, notTrusting } from '../ca/unconfirmed.js';
import type { UserAccounts } from '../access/user-accounts.js';
import type { AgentRegistry } from '../fleet/agent-registry.js';
import type { CaRoot, CaStatusAnswer } from './api-types.js';
import { issuerAnswer } from './issuer-answer.js';
import { badRequest } from './api-error.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** The CA: its roots for everyone, and for users who trusts and proves what. */
export function caRoutes(init: {
  readonly ca: Pick<CertificateIssuer, 'trust' | 'rootsPem' | 'external'>;
  readonly bundle: Pick<SpiffeBundle, 'document'>;
  readonly agents: Pick<AgentRegistry, 'confirmations'>;
  readonly users: Pick<UserAccounts, 'list'>;
  /** Agents pin its public half. */
  readonly signingKeyPem: string;
  readonly trustDomain: string;
}): Route[] {
  const { ca, bundle, agents, users, signingKeyPem, trustDomain } = init;

  /** A joining host needs no nonce: it has a hash in its token. */
  const roots = ({ query }: ApiRequest): ApiAnswer => {
    const { rootsPem } = ca;
    const nonce = query.get('nonce');
    if (nonce === null) return { status: 200, body: { rootsPem, trustDomain } };
    if (!rootsNonce.safeParse(nonce).success) {
      throw badRequest('this nonce is malformed', 'send 22 to 64 characters of base64url');
    }
    const sealed = sealAnswer({ asked: rootsQuestion(nonce), answer: { rootsPem }, privateKeyPem: signingKeyPem });
    return { status: 200, body: { rootsPem, trustDomain, sealed: Buffer.from(sealed).toString('base64') } };
  };

  return [
    { method: 'GET', path: '/v1/ca', access: 'open', maxBodyBytes: 0, handle: roots },
    {
      method: 'GET',
      path: '/v1/spiffe/bundle',
      access: 'open',
      maxBodyBytes: 0,
      handle: async () => ({ status: 200, body: await bundle.document() }),
    },
    {
      method: 'GET',
      path: '/v1/ca/status',
      access: 'viewer',
      maxBodyBytes: 0,
      handle: () => ({
        status: 200,
        body: {
          ...statusOf(ca.trust, agents.confirmations()),
          users: users.list().length,
          issuer: issuerAnswer(ca.external),
        },
      }),
    },
  ];
}

function statusOf(
  trust: MeshTrust,
  nodes: ReturnType<AgentRegistry['confirmations']>,
): Omit<CaStatusAnswer, 'users' | 'issuer'> {
  const roots = [
    describeRoot(trust.rootPem, 'in use'),
    ...(trust.nextRootPem === null || trust.nextRootPem === trust.rootPem
      ? []
      : [describeRoot(trust.nextRootPem, 'next')]),
    ...trust.previousRootsPem.map((pem) => describeRoot(pem, 'previous')),
  ];
  const { subject, notAfterMs } = describeCertificate(trust.issuingPem);
  return {
    issuing: {
      hash: certificateHash(trust.issuingPem),
      root: certificateHash(trust.rootPem),
      subject,
      notAfter: new Date(notAfterMs).toISOString(),
    },
    roots,
    rotation: rotationOf(trust, nodes),
    agents: nodes.map(({ node, trust: report, lastSeenMs }) => ({
      node,
      trusts: report?.trusts ?? null,
      proves: report?.proves ?? null,
      lastSeenMs,
    })),
  };
}

function rotationOf(trust: MeshTrust, nodes: ReturnType<AgentRegistry['confirmations']>): CaStatusAnswer['rotation'] {
  if (trust.nextRootPem !== null) {
    return { nextStep: 'activate', unconfirmed: notTrusting(certificateHash(trust.nextRootPem), nodes) };
  }
  if (trust.previousRootsPem.length === 0) return { nextStep: null, unconfirmed: [] };
  return { nextStep: 'finish', unconfirmed: notProving(certificateHash(trust.rootPem), nodes) };
}

function describeRoot(pem: string, role: CaRoot['role']): CaRoot {
  const { subject, notAfterMs } = describeCertificate(pem);
  return { hash: certificateHash(pem), role, subject, notAfter: new Date(notAfterMs).toISOString() };
}
