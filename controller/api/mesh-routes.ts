import { workloadName, type NodeName } from '../../shared/routing/names.js';
import type { WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { version } from '../../shared/version.js';
import type { CertificateIssuer } from '../ca/certificate-issuer.js';
import type { AgentRegistry } from '../fleet/agent-registry.js';
import { unservedProblem } from '../fleet/capture-progress.js';
import type { NodeMembers } from '../join/node-members.js';
import type { KubernetesState } from '../kubernetes/kubernetes-state.js';
import type { ReplicasState } from '../kubernetes/replicas.js';
import { damagedFiles } from '../store/damaged-files.js';
import type { ResourceStore } from '../store/resource-store.js';
import { lockWarnings, type StateLock } from '../store/state-lock.js';
import { positionOf } from '../fleet/agents-ahead.js';
import { badRequest } from './api-error.js';
import type { PendingTask, StatusAnswer } from './api-types.js';
import { explain, type AgentOfWorkload } from './explain.js';
import type { NodesWithoutAgent } from '../fleet/nodes-without-agent.js';
import { breakGlassRules, MeshWarnings } from '../fleet/mesh-warnings.js';
import { issuerAnswer } from './issuer-answer.js';
import { readPort } from './request-values.js';
import type { ApiAnswer, ApiRequest, Route } from './router.js';

/** Status and explanations of the mesh as a whole. */
export function meshRoutes(init: {
  readonly store: ResourceStore;
  readonly agents: AgentRegistry;
  readonly members: NodeMembers;
  readonly nodes: NodesWithoutAgent;
  readonly ca: CertificateIssuer;
  readonly trustDomain: string;
  readonly stateDir: string;
  readonly lock: Pick<StateLock, 'unheldBecause'>;
  readonly startedAtMs: number;
  readonly nowMs: () => number;
  readonly pending: () => readonly PendingTask[];
  /** Null: the controller follows no cluster. */
  readonly kubernetes: () => KubernetesState | null;
  /** Null: there is one controller. */
  readonly replicas: () => ReplicasState | null;
}): Route[] {
  const { store, agents, members, nodes, ca, nowMs } = init;

  const warnings = new MeshWarnings();

  const why = async ({ query }: ApiRequest): Promise<ApiAnswer> => {
    const source = query.get('source');
    const destination = query.get('destination');
    if (source === null || destination === null) {
      throw badRequest(
        'source and destination are both required',
        'ask /v1/why?source=billing/api&destination=billing/db&port=5432',
      );
    }
    const question = { source, destination, port: readPort(query.get('port')) };
    const { release, inventory } = store;
    const probersOf = (node: NodeName): readonly string[] => agents.heartbeatOf(node)?.hostProbes ?? [];
    const agentOf = (workload: WorkloadEntry): AgentOfWorkload => {
      const { node } = workload;
      const agent = node === null ? undefined : agents.statusOf(node, positionOf(store));
      const problem = agent === undefined ? null : unservedProblem(workloadName(workload), agent);
      return { hasAgent: node !== null && nodes.hasAgent(node), problem };
    };
    return {
      status: 200,
      body: await explain({ release, entries: inventory.entries, probersOf, agentOf }, question, { nowMs }),
    };
  };

  const status = async (): Promise<ApiAnswer> => {
    const { revision, createdAt, createdBy } = store.release.state;
    const pending = init.pending();
    const body: StatusAnswer = {
      controller: {
        version,
        trustDomain: init.trustDomain,
        startedAt: new Date(init.startedAtMs).toISOString(),
        pending: pending.map((task) => task.name),
        pendingDetails: Object.fromEntries(pending.map(({ name, detail }) => [name, detail])),
        issuingCaNotAfter: new Date(ca.issuingNotAfterMs).toISOString(),
        issuer: issuerAnswer(ca.external),
      },
      revision,
      inventorySequence: store.inventory.sequence,
      appliedAt: createdAt,
      appliedBy: createdBy,
      agents: agents.list(positionOf(store)),
      removedNodes: members.removed,
      nodesWithoutAgent: nodes.among(store.inventory.entries),
      warnings: [...lockWarnings(init.lock), ...(await damagedFiles(init.stateDir)), ...warnings.of(store, nowMs())],
      breakGlass: breakGlassRules(store.release, nowMs()),
      kubernetes: init.kubernetes(),
      replicas: init.replicas(),
    };
    return { status: 200, body };
  };

  return [
    { method: 'GET', path: '/v1/why', access: 'viewer', maxBodyBytes: 0, handle: why },
    { method: 'GET', path: '/v1/status', access: 'viewer', maxBodyBytes: 0, handle: status },
  ];
}
