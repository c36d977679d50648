import type { NodeName } from '../../shared/routing/names.js';
import { CulvertError } from '../../shared/errors.js';

/** What an API server says of a token: the node of its pod, or what is wrong, to follow "this token". */
export type TokenReviewer = (
  token: string,
) => Promise<{ readonly isGood: true; readonly node: NodeName } | { readonly isGood: false; readonly problem: string }>;

/**
 * Whether a token of a service account proves a node; throws CulvertError `ACCOUNT_TOKEN` or `ACCOUNT_TOKEN_NODE` where it
 * does not, and the reviewer's errors. It may be used again at any time: kubelet replaces it, and it dies with its pod.
 */
export async function proveNode(
  token: string,
  node: NodeName,
  { review, isRemoved }: { readonly review: TokenReviewer | null; readonly isRemoved: (node: NodeName) => boolean },
): Promise<void> {
  if (review === null) {
    throw refused(
      'is that of a service account, and this controller follows no cluster',
      'start it with --kubernetes-api',
    );
  }
  const found = await review(token);
  if (!found.isGood) throw refused(found.problem, 'see the DaemonSet of the agents: audience, and service account');
  // Its pod still has the token, and the node was removed for a reason. A token of an administrator brings it back.
  if (found.node === node && isRemoved(node)) {
    throw refused(
      `is of ${node}, which was removed from the mesh`,
      `let it join again with culvert token create --node ${node}`,
    );
  }
  if (found.node === node) return;
  throw new CulvertError({
    code: 'ACCOUNT_TOKEN_NODE',
    message: `this token is of a pod on ${found.node}, and proves no other node`,
    hint: 'the name of a node in the mesh is that of the node in the cluster: leave --node to spec.nodeName',
  });
}

function refused(problem: string, hint: string): CulvertError {
  return new CulvertError({ code: 'ACCOUNT_TOKEN', message: `this token ${problem}`, hint });
}
