import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { JoinTokens } from '../join/join-tokens.js';
import type { NodeMembers } from '../join/node-members.js';
import type { MeshNats } from '../nats/mesh-nats.js';
import type { AgentRegistry } from './agent-registry.js';

/** What became of the NATS credential of a node that was removed. */
export type NatsRevocation =
  | { readonly kind: 'revoked' }
  /** It was issued by an earlier version, and its user is not known. It ends by itself. */
  | { readonly kind: 'unknown' }
  /** Only the operator of NATS can revoke it. */
  | { readonly kind: 'operator'; readonly users: readonly string[] };

export type Eviction = { readonly nats: NatsRevocation; readonly tokensRevoked: number };

/**
 * Takes a node out of the mesh: from the first step on no credential that it holds gets it anything signed, also after a
 * restart. Errors: `NOT_FOUND`, `STATE_WRITE`. Repeating it after a failure is safe.
 */
export async function evictNode(
  node: NodeName,
  o: {
    readonly members: NodeMembers;
    readonly tokens: JoinTokens;
    readonly agents: AgentRegistry;
    readonly nats: Pick<MeshNats, 'revoke'>;
    readonly log: Log;
  },
): Promise<Eviction> {
  const { members, tokens, agents, nats, log } = o;
  if (!members.has(node) && !agents.has(node) && !tokens.isUsableFor(node)) {
    throw new CulvertError({
      code: 'NOT_FOUND',
      message: `there is no node ${node}`,
      hint: 'list them: culvert nodes',
    });
  }
  const { users } = await members.remove(node);
  const tokensRevoked = await tokens.revokeFor(node);
  const isRevoked = await nats.revoke(members.revokedUsers).catch((error: unknown) => {
    // The next start of nats-server reads them.
    log.error({ node, problem: describeError(error) }, 'nats-server has not taken over a revocation yet');
    return true;
  });
  await agents.forget(node);
  log.warn({ node, users, tokensRevoked }, 'a node was removed from the mesh');
  if (!isRevoked) return { nats: { kind: 'operator', users }, tokensRevoked };
  return { nats: { kind: users.length === 0 ? 'unknown' : 'revoked' }, tokensRevoked };
}
