import { setTimeout as delay } from 'node:timers/promises';
import { nodeSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import type { NodeName } from '../../../shared/routing/names.js';
import type { ServerRequest } from '../certificate-issuer.js';
import { wantedNames } from '../leaf-names.js';
import { proveSigning } from '../prove-authority.js';
import type { Wanted } from './external-issuer.js';
import type { GuardedIssuer } from './guarded-issuer.js';
import { issuerError } from './issuer-error.js';
import { rootsAmong } from './issuer-roots.js';
import { plainRequestKey } from './plain-request.js';
import { verifyIssued, type VerifiedIssue } from './verify-issued.js';

/** `key`: on whose behalf, for {@link GuardedIssuer}. */
export type Asked = Wanted & { readonly key: string };

type Init = { readonly issuer: GuardedIssuer; readonly nowMs: () => number };

export type ProofSettings = {
  readonly trustDomain: string;
  readonly workloadTtlMs: number;
  readonly nodeTtlMs: number;
  readonly serverTtlMs: number;
  /** DNS names and IP addresses of the controller's servers. */
  readonly serverNames: readonly string[];
};

/**
 * Asks for one certificate, and verifies it. `rootsPem` null: the root that comes with it counts, which only a first start
 * may do.
 */
export async function signVerified(
  { issuer, nowMs }: Init,
  asked: Asked,
  rootsPem: string | null,
  signal?: AbortSignal,
): Promise<VerifiedIssue> {
  const names = wantedNames(asked);
  const mayLackNames = issuer.kind === 'vault';
  const spki = await plainRequestKey(asked.csrPem, names, { mayLackNames });
  const bundle = await issuer.sign(asked, asked.key, signal);
  const { kind, ttlMs } = asked;
  const roots = rootsPem ?? offeredRoots(bundle);
  const issued = verifyIssued(bundle, { kind, names, spki, rootsPem: roots, ttlMs, nowMs: nowMs() });
  // No peer would accept it before.
  if (issued.startsInMs > 0) await delay(issued.startsInMs);
  return issued;
}

function offeredRoots(bundle: string): string {
  let roots = '';
  try {
    roots = rootsAmong(bundle);
  } catch {
    // Verification says what is wrong with it.
    return '';
  }
  if (roots !== '') return roots;
  throw issuerError(
    'ISSUER_UNFIT',
    'the issuer does not give its root along with a certificate, so it is not known which root to trust',
    'name a PEM file with it: --issuer-roots-file',
  );
}

export async function proveWith(
  init: { readonly settings: ProofSettings; readonly nowMs: () => number },
  sign: (asked: Asked) => Promise<VerifiedIssue>,
  rootPem: () => string,
): Promise<void> {
  const { trustDomain, serverNames, workloadTtlMs, nodeTtlMs, serverTtlMs } = init.settings;
  await proveSigning({
    trustDomain,
    serverNames,
    nowMs: init.nowMs,
    rootPem,
    sign: {
      workload: (request) => sign(workloadAsk({ ...request, node: 'proof', ttlMs: workloadTtlMs })),
      node: (request) => sign(nodeAsk({ ...request, ttlMs: nodeTtlMs, trustDomain })),
      server: (request) => sign(serverAsk(request, serverTtlMs)),
    },
  });
}

export function workloadAsk(o: {
  readonly csrPem: string;
  readonly identity: SpiffeId;
  readonly node: string;
  readonly ttlMs: number;
}): Asked {
  const { csrPem, identity, node, ttlMs } = o;
  return { kind: 'workload', csrPem, ttlMs, key: node, uris: [identity], dnsNames: [], ipAddresses: [] };
}

export function nodeAsk(o: {
  readonly csrPem: string;
  readonly node: NodeName;
  readonly ttlMs: number;
  readonly trustDomain: string;
}): Asked {
  const { csrPem, node, ttlMs, trustDomain } = o;
  const uris = [nodeSpiffeId(trustDomain, node)];
  return { kind: 'node', csrPem, ttlMs, key: node, uris, dnsNames: [], ipAddresses: [] };
}

/** No node can have this key: names of nodes have no capital letters. */
const serverKey = 'CONTROLLER';

export function serverAsk({ csrPem, dnsNames, ipAddresses, spiffeId }: ServerRequest, ttlMs: number): Asked {
  const uris = spiffeId === undefined ? [] : [spiffeId];
  return { kind: 'server', csrPem, ttlMs, key: serverKey, uris, dnsNames, ipAddresses };
}
