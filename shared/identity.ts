import type { NodeName } from './routing/names.js';

/**
 * The name that a workload proves with its certificate: a SPIFFE ID of the form `spiffe://<trust
 * domain>/ns/<namespace>/sa/<service account>`, the same form as in Istio and Linkerd. Source: SPIFFE-ID specification,
 * sections 2 and 2.2.
 */
export type SpiffeId = string & { readonly __brand: 'SpiffeId' };

export type Identity = {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
};

/** Longest SPIFFE ID that implementations must accept, in bytes (SPIFFE-ID specification, section 2.3). */
const maxSpiffeIdBytes = 2048;
const spiffePattern =
  /^spiffe:\/\/([a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?)\/ns\/([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)\/sa\/([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)$/;

export function formatSpiffeId(identity: Identity): SpiffeId {
  return `spiffe://${identity.trustDomain}/ns/${identity.namespace}/sa/${identity.serviceAccount}` as SpiffeId;
}

/** Returns the parts of a workload's SPIFFE ID, or undefined if the text is not one. */
export function parseSpiffeId(uri: string): Identity | undefined {
  if (uri.length > maxSpiffeIdBytes) return undefined;
  const match = spiffePattern.exec(uri);
  if (match === null) return undefined;
  const [, trustDomain, namespace, serviceAccount] = match;
  if (trustDomain === undefined || namespace === undefined || serviceAccount === undefined) return undefined;
  return { trustDomain, namespace, serviceAccount };
}

export function isTrustDomain(text: string): boolean {
  return parseSpiffeId(formatSpiffeId({ trustDomain: text, namespace: 'x', serviceAccount: 'x' })) !== undefined;
}

/** The controller's API, to other trust domains. It is no workload identity, so no tunnel accepts it. */
export function controllerSpiffeId(trustDomain: string): string {
  return `spiffe://${trustDomain}/culvert/controller`;
}

/** `spiffe://<trust domain>/culvert/node/<node>`: an agent itself. It is no workload identity, so no tunnel accepts it. */
export function nodeSpiffeId(trustDomain: string, node: NodeName): string {
  return `spiffe://${trustDomain}/culvert/node/${node}`;
}
