import { didYouMean } from '../../shared/nearest-name.js';
import { parseNodeName, type NodeName } from '../../shared/routing/names.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { JoinTokens } from '../join/join-tokens.js';
import type { NodeMembers } from '../join/node-members.js';
import type { Problem } from '../resources/kinds/problem.js';
import { ProblemList } from '../resources/parse/problem-list.js';
import type { ParsedDocuments } from '../resources/parse/parse-documents.js';
import type { AgentRegistry } from './agent-registry.js';

/** A node that registered workloads name, and for which no agent has joined. */
export type NodeWithoutAgent = {
  readonly node: NodeName;
  /** How many workloads an agent there would capture. Until then they are neither encrypted nor subject to rules. */
  readonly workloads: number;
  /** `expected`: a host can join with a token that is not used up. `removed`: with `culvert node remove`. */
  readonly why: 'unknown' | 'expected' | 'removed';
};

/** Names that are as near as possible are looked for among thousands of nodes, so not for each of many. */
const maxHints = 16;

/** Which nodes have an agent, and what follows for workloads on those that have none. */
export class NodesWithoutAgent {
  readonly #agents: Pick<AgentRegistry, 'has' | 'trustVersion' | 'nodes'>;
  readonly #members: Pick<NodeMembers, 'has' | 'isRemoved'>;
  readonly #tokens: Pick<JoinTokens, 'isUsableFor'>;

  constructor(init: {
    readonly agents: Pick<AgentRegistry, 'has' | 'trustVersion' | 'nodes'>;
    readonly members: Pick<NodeMembers, 'has' | 'isRemoved'>;
    readonly tokens: Pick<JoinTokens, 'isUsableFor'>;
  }) {
    this.#agents = init.agents;
    this.#members = init.members;
    this.#tokens = init.tokens;
  }

  /**
   * Whether an agent has joined for the node, whatever it does now. False for one that was removed, or was silent for longer
   * than its credential lasts.
   */
  hasAgent(node: NodeName): boolean {
    if (this.#agents.has(node)) return true;
    // Who joined is on disk; what agents said last is read from NATS after the start.
    return this.#agents.trustVersion === 0 && this.#members.has(node);
  }

  /** Every node without an agent that these entries name, by name. */
  among(entries: readonly RegistryEntry[]): NodeWithoutAgent[] {
    const counts = new Map<NodeName, number>();
    for (const entry of entries) {
      if (entry.kind !== 'workload' || entry.node === null || entry.protocol !== 'hbone') continue;
      if (!this.hasAgent(entry.node)) counts.set(entry.node, (counts.get(entry.node) ?? 0) + 1);
    }
    return [...counts]
      .map(([node, workloads]) => ({ node, workloads, why: this.#whyOf(node) }))
      .sort((a, b) => (a.node < b.node ? -1 : 1));
  }

  /** A warning for each Workload of a change whose node has no agent. */
  warnings({ resources, locations }: Pick<ParsedDocuments, 'resources' | 'locations'>): readonly Problem[] {
    const problems = new ProblemList({ locations });
    const hints = new Map<NodeName, string>();
    for (const resource of resources) {
      if (resource.kind !== 'Workload') continue;
      const node = parseNodeName(resource.spec.node ?? '');
      if (node === undefined || resource.spec.netns === undefined || this.hasAgent(node)) continue;
      const hint = hints.get(node) ?? this.#hintFor(node, hints.size < maxHints);
      hints.set(node, hint);
      problems.warn({ resource, path: ['spec', 'node'] }, warningTexts[this.#whyOf(node)], hint);
    }
    return problems.warnings;
  }

  #hintFor(node: NodeName, isNearestWanted: boolean): string {
    const why = this.#whyOf(node);
    if (why === 'expected') return 'its join token was not used yet: join the host';
    const join = `join it: culvert token create --node ${node}`;
    return isNearestWanted && why === 'unknown' ? didYouMean(node, this.#agents.nodes(), join) : join;
  }

  #whyOf(node: NodeName): NodeWithoutAgent['why'] {
    if (this.#tokens.isUsableFor(node)) return 'expected';
    return this.#members.isRemoved(node) ? 'removed' : 'unknown';
  }
}

const warningTexts = {
  unknown: 'no agent has joined for this node: until one does, the workload is neither encrypted nor subject to rules',
  expected: 'no agent has joined for this node yet: until then the workload is neither encrypted nor subject to rules',
  removed: 'this node was removed and has no agent: the workload is neither encrypted nor subject to rules',
} as const;
