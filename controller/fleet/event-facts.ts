import type { NodeName, WorkloadName } from '../../shared/routing/names.js';
import type { EventFacts, NodeProblem } from '../kubernetes/cluster-events.js';
import type { NodeFacts } from '../kubernetes/startup-taint.js';
import type { InventoryConflict } from '../inventory/inventory-source.js';
import type { ResourceStore } from '../store/resource-store.js';
import type { AgentRegistry, AgentStatus } from './agent-registry.js';
import { positionOf } from './agents-ahead.js';
import { uncapturedWorkloads, unservedProblem } from './capture-progress.js';
import type { NodesWithoutAgent } from './nodes-without-agent.js';

/** What happens in every update of agents, and at every start of a node, is over by then. */
const usualMs = 60_000;
/** While agents are replaced one after another, they have two versions. */
const versionMs = 15 * 60_000;

/** What the events of a cluster say of the mesh, and what decides whether a node may take pods. */
export class MeshEventFacts implements EventFacts, NodeFacts {
  readonly #store: Pick<ResourceStore, 'inventory' | 'release'>;
  readonly #agents: Pick<AgentRegistry, 'list' | 'statusOf'>;
  readonly #nodes: Pick<NodesWithoutAgent, 'among'>;
  readonly #version: string;

  constructor(init: {
    readonly store: Pick<ResourceStore, 'inventory' | 'release'>;
    readonly agents: Pick<AgentRegistry, 'list' | 'statusOf'>;
    readonly nodes: Pick<NodesWithoutAgent, 'among'>;
    /** Of the controller. */
    readonly version: string;
  }) {
    this.#store = init.store;
    this.#agents = init.agents;
    this.#nodes = init.nodes;
    this.#version = init.version;
  }

  uncaptured(): readonly { readonly workload: string; readonly problem: string }[] {
    return uncapturedWorkloads(this.#store.inventory.entries, this.#agents.list(positionOf(this.#store))).workloads;
  }

  isCaptured(workload: string): boolean {
    const published = this.#store.inventory.registry.published.get(`workload.${workload.replace('/', '.')}`);
    const entry = published?.entry;
    if (entry?.kind !== 'workload' || entry.node === null) return false;
    const agent = this.#agents.statusOf(entry.node, positionOf(this.#store));
    return agent !== undefined && unservedProblem(workload as WorkloadName, agent) === null;
  }

  capturesNothingYet(node: string, sinceMs: number): string | null {
    const agent = this.#agents.statusOf(node as NodeName, positionOf(this.#store));
    if (agent === undefined || agent.heartbeat === null || (agent.lastSeenMs ?? 0) < sinceMs) {
      return 'no agent of it has been heard: see the log of its agent';
    }
    if (['stale', 'stopped', 'joined'].includes(agent.state)) return 'its agent is silent: see its log';
    const { cniProblem, appliedRevision, enforcedByAllWorkers, inventorySequence, knowsEnrolment } = agent.heartbeat;
    if (appliedRevision === null || !enforcedByAllWorkers || (inventorySequence ?? null) === null) {
      return 'its agent has no rules yet';
    }
    // An agent without the plugin says nothing of it, and captures as soon as it sees a pod.
    if (cniProblem === undefined) return null;
    return (
      cniProblem ?? (knowsEnrolment === true ? null : 'its agent does not know yet which namespaces are in the mesh')
    );
  }

  nodes(): ReadonlyMap<string, readonly NodeProblem[]> {
    const without = this.#nodes.among(this.#store.inventory.entries).map(({ node, workloads, why }) => {
      const pods = `${workloads} ${workloads === 1 ? 'pod' : 'pods'} of the mesh here ${workloads === 1 ? 'is' : 'are'} not captured`;
      const note =
        why === 'removed'
          ? `the node was removed from the mesh, so ${pods}: it joins again with a token (culvert token create)`
          : `no agent has joined for this node, so ${pods}: see the log of its agent`;
      return [node, [{ reason: 'NoAgent', note, afterMs: usualMs }]] as const;
    });
    const agents = this.#agents
      .list(positionOf(this.#store))
      .map((agent) => [agent.node, this.#problemsOf(agent)] as const);
    return new Map<string, readonly NodeProblem[]>([
      ...agents.filter(([, problems]) => problems.length > 0),
      ...without,
    ]);
  }

  conflicts(): readonly InventoryConflict[] {
    return this.#store.inventory.registry.conflicts;
  }

  #problemsOf({ state, heartbeat }: AgentStatus): readonly NodeProblem[] {
    if (state === 'stale') return [problem('AgentSilent', 'the agent of this node sends no heartbeats: see its log')];
    if (state === 'stopped') return [problem('AgentStopped', 'the agent of this node was stopped, and none runs')];
    if (state === 'joined' || heartbeat === null) return [];
    const { cniProblem, rulesAlarm, registryAlarm, version } = heartbeat;
    const refused = rulesAlarm ?? registryAlarm;
    return [
      ...(cniProblem === undefined || cniProblem === null
        ? []
        : [problem('CniPluginNotInstalled', `new pods of this node are captured late: ${cniProblem}`)]),
      ...(refused === undefined
        ? []
        : [problem('RulesRefused', `the agent of this node keeps its last good rules: ${refused}`)]),
      ...(version === this.#version
        ? []
        : [
            {
              reason: 'AgentVersion',
              note: `the agent of this node is ${version}, the controller ${this.#version}: upgrade the older one`,
              afterMs: versionMs,
            },
          ]),
    ];
  }
}

function problem(reason: string, note: string): NodeProblem {
  return { reason, note, afterMs: usualMs };
}
