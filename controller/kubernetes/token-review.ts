import { z } from 'zod';
import { parseNodeName, type NodeName } from '../../shared/routing/names.js';
import type { KubernetesApi } from './kubernetes-api.js';

/** Of the tokens with which agents join. A token for the API of Kubernetes is not taken, and this one is not taken there. */
const joinAudience = 'culvert';

const nodeClaim = 'authentication.kubernetes.io/node-name';
const reviewSchema = z.object({
  status: z.object({
    authenticated: z.boolean().default(false),
    error: z.string().optional(),
    audiences: z.array(z.string()).nullish(),
    user: z
      .object({
        username: z.string().default(''),
        extra: z.record(z.string(), z.array(z.string())).nullish(),
      })
      .nullish(),
  }),
});

export type ReviewedToken =
  | { readonly isGood: true; readonly node: NodeName }
  /** Why, to follow "this token". */
  | { readonly isGood: false; readonly problem: string };

/**
 * Asks the API server about the token of a service account, projected into the pod of an agent. It proves the node of the
 * pod, and one that was stolen from a node proves no other. Errors: those of {@link KubernetesApi}.
 * Source: TokenReview (authentication.k8s.io/v1), and the node claims of bound tokens (since Kubernetes 1.32).
 */
export async function reviewToken(
  api: KubernetesApi,
  {
    token,
    account,
  }: { readonly token: string; /** `NAMESPACE:NAME` of the service account of agents. */ readonly account: string },
  signal: AbortSignal,
): Promise<ReviewedToken> {
  const body = {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences: [joinAudience] },
  };
  const path = '/apis/authentication.k8s.io/v1/tokenreviews';
  const { status } = reviewSchema.parse(await api.send({ method: 'POST', path, body }, signal));
  if (!status.authenticated) return { isGood: false, problem: 'is not one of this cluster, or has expired' };
  if (status.audiences?.includes(joinAudience) !== true) {
    return { isGood: false, problem: `is not for the audience ${joinAudience}` };
  }
  const { username = '', extra = {} } = status.user ?? {};
  if (username !== `system:serviceaccount:${account}`) {
    return { isGood: false, problem: `is of ${username}, not of the service account of the agents` };
  }
  const node = parseNodeName(extra?.[nodeClaim]?.[0] ?? '');
  return node === undefined
    ? { isGood: false, problem: 'does not say on which node its pod is, as those of Kubernetes 1.32 and later do' }
    : { isGood: true, node };
}
