import type { Log } from '../../shared/log.js';
import { parseNodeName, workloadName } from '../../shared/routing/names.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import { evictNode } from '../fleet/evict-node.js';
import type { AgentRegistry } from '../fleet/agent-registry.js';
import type { JoinTokens } from '../join/join-tokens.js';
import type { NodeMembers } from '../join/node-members.js';
import type { NatsRevocations } from '../fleet/nats-revocations.js';
import type { WithdrawnIdentities } from '../fleet/withdrawn-identities.js';
import { badRequest } from './api-error.js';
import type { NodeRemovedAnswer } from './api-types.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** The route for administrators to take a node out of the mesh. */
export function nodeRoutes(init: {
  readonly members: NodeMembers;
  readonly tokens: JoinTokens;
  readonly agents: AgentRegistry;
  readonly revocations: Pick<NatsRevocations, 'apply'>;
  readonly identities: Pick<WithdrawnIdentities, 'apply'>;
  readonly inventory: () => readonly RegistryEntry[];
  readonly log: Log;
}): Route[] {
  const remove = async ({ params, begin }: ApiRequest): Promise<ApiAnswer> => {
    const node = parseNodeName(params['node'] ?? '');
    if (node === undefined) throw badRequest('this is not the name of a node', 'list them: culvert nodes');
    const eviction = await evictNode(node, { ...init, begin });
    const workloads = init
      .inventory()
      .flatMap((entry) => (entry.kind === 'workload' && entry.node === node ? [workloadName(entry)] : []));
    return { status: 200, body: { ...eviction, node, workloads } satisfies NodeRemovedAnswer };
  };
  return [
    {
      method: 'DELETE',
      path: '/v1/nodes/:node',
      access: 'admin',
      audit: {
        action: 'node.remove',
        target: ({ params }) => parseNodeName(params['node'] ?? '') ?? null,
        beginsLate: true,
      },
      maxBodyBytes: 0,
      handle: remove,
    },
  ];
}
