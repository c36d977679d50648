import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { JoinTokens } from '../join/join-tokens.js';
import type { NodeMembers } from '../join/node-members.js';
import type { AgentRegistry } from './agent-registry.js';
import type { NatsRevocations } from './nats-revocations.js';
import type { WithdrawnIdentities } from './withdrawn-identities.js';

/** What became of the NATS credential of a node that was removed. */
export type NatsRevocation =
  | { readonly kind: 'revoked' }
  /** It was issued by an earlier version, and its user is not known. It ends by itself. */
  | { readonly kind: 'unknown' }
  /** nats-server could not take it over: the credential is valid until a later try succeeds. */
  | { readonly kind: 'pending'; readonly problem: string }
  /** Only the operator of NATS can revoke it. */
  | { readonly kind: 'operator'; readonly users: readonly string[] };

export type Eviction = {
  readonly nats: NatsRevocation;
  readonly tokensRevoked: number;
  /**
   * `withdrawn`: no agent accepts the identities of the workloads there. `pending`: the disk did not take it; their
   * certificates are accepted until a later try succeeds.
   */
  readonly identities: 'withdrawn' | 'pending';
};

/**
 * Takes a node out of the mesh: once it is written down, no credential that the node holds gets it anything signed, also
 * after a restart, and other agents no longer accept the identities of its workloads. Its tokens go first, so that no join
 * can begin that the removal does not see. Errors: `NOT_FOUND`, `STATE_WRITE`. Repeating it after a failure is safe.
 */
export async function evictNode(
  node: NodeName,
  o: {
    readonly members: NodeMembers;
    readonly tokens: JoinTokens;
    readonly agents: AgentRegistry;
    readonly revocations: Pick<NatsRevocations, 'apply'>;
    readonly identities: Pick<WithdrawnIdentities, 'apply'>;
    readonly log: Log;
    /** Called before anything is done. When it rejects, nothing is. */
    readonly begin: () => Promise<void>;
  },
): Promise<Eviction> {
  const { members, tokens, agents, revocations, identities, log, begin } = o;
  if (!members.has(node) && !agents.has(node) && !tokens.isUsableFor(node)) {
    throw new CulvertError({
      code: 'NOT_FOUND',
      message: `there is no node ${node}`,
      hint: 'list them: culvert nodes',
    });
  }
  await begin();
  const tokensRevoked = await tokens.revokeFor(node);
  const { users } = await members.remove(node);
  const [outcome, isWithdrawn] = await Promise.all([revocations.apply(), identities.apply()]);
  await agents.forget(node);
  log.warn({ node, users, tokensRevoked }, 'a node was removed from the mesh');
  const rest = { tokensRevoked, identities: isWithdrawn ? 'withdrawn' : 'pending' } as const;
  if (outcome.kind === 'operator') return { nats: { kind: 'operator', users }, ...rest };
  if (outcome.kind === 'pending') return { nats: outcome, ...rest };
  return { nats: { kind: users.length === 0 ? 'unknown' : 'revoked' }, ...rest };
}
