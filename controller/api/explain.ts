import { setImmediate } from 'node:timers/promises';
import { nearMisses } from '../analysis/why/near-misses.js';
import { evaluate } from '../../shared/policy/evaluate.js';
import type { Clock, Connection, Party, RuleRef } from '../../shared/policy/connection.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { areOneWorkload } from '../../shared/policy/own-traffic.js';
import { mtlsOf } from '../../shared/policy/required-mtls.js';
import { missingProof, missingProofHint, missingProofText } from '../analysis/pairs/missing-proof.js';
import { strictRefusal } from '../analysis/pairs/predict.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import { isWithdrawn } from '../inventory/withdrawn-identity.js';
import type { RegistryEntry, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { badRequest } from './api-error.js';
import type { Enforcer, ExplainedConnection, WhyAnswer } from './api-types.js';
import { trafficNotes } from './traffic-notes.js';
import { findDestinations, findSources, type Candidate, type DestinationCandidate } from './party-candidates.js';
import { partyWorkload } from '../analysis/pairs/mesh-party.js';
import { localityOf } from '../../shared/routing/locality.js';
import { serviceName, workloadName, type NodeName } from '../../shared/routing/names.js';

/** What is known of the agent that a registered workload with a node and a netns is to have. */
export type AgentOfWorkload = {
  /** Whether one has joined for the node, whatever it does now. */
  readonly hasAgent: boolean;
  /** Why it does not capture and serve the workload now; null: it does, or there is none. */
  readonly problem: string | null;
};

/** Pairs of source and destination in one answer. */
const maxConnections = 64;

/** `port` is the port that the source would dial; null when the question has none. */
export type WhyQuestion = { readonly source: string; readonly destination: string; readonly port: number | null };

/**
 * Says how the rules in force decide a hypothetical connection. Runs the evaluator that agents use, with the facts that
 * they would have. Yields to other requests between two connections, because finding near misses among thousands of rules
 * takes a while. Throws CulvertError `NOT_FOUND` or `BAD_REQUEST`.
 */
export async function explain(
  {
    release,
    entries,
    probersOf,
    agentOf,
  }: {
    readonly release: CompiledRevision;
    readonly entries: readonly RegistryEntry[];
    /** Whose connections from a node to its own workloads pass without a rule: the setting of its agent. */
    readonly probersOf: (node: NodeName) => readonly string[];
    readonly agentOf: (workload: WorkloadEntry) => AgentOfWorkload;
  },
  question: WhyQuestion,
  clock: Clock,
): Promise<WhyAnswer> {
  const { snapshot } = release;
  const pairs = pairsOf(question, entries, snapshot);
  const connections: ExplainedConnection[] = [];
  for (const { source, destination } of pairs) {
    connections.push(
      explainOne({ release, clock, source, destination, probersOf, agentOf, dialledPort: question.port }),
    );
    await setImmediate();
  }
  const [first, ...others] = connections;
  if (first === undefined) throw badRequest('no workload with an address matches', 'name a workload with an address');
  const { revision, createdBy, createdAt } = snapshot;
  return { ...first, revision, appliedBy: createdBy, appliedAt: createdAt, others };
}

/** Each source with the endpoints that it gets. One that gets none is left out while another gets some. */
function pairsOf(
  { source: text, destination, port }: WhyQuestion,
  entries: readonly RegistryEntry[],
  snapshot: Snapshot,
): { readonly source: Candidate; readonly destination: DestinationCandidate }[] {
  const failures: unknown[] = [];
  const asked = findSources(text, entries).flatMap((source) => {
    try {
      const from = source.workload === null ? null : localityOf(source.workload);
      const led = source.workload === null ? null : { snapshot, client: source.workload };
      return [{ source, destinations: findDestinations(destination, port, entries, from, led) }];
    } catch (error) {
      failures.push(error);
      return [];
    }
  });
  if (asked.length === 0 && failures.length > 0) throw failures[0];
  const most = Math.max(0, ...asked.map(({ destinations }) => destinations.length));
  const pairs = Array.from({ length: most }, (_, index) =>
    asked.flatMap(({ source, destinations }) => {
      const each = destinations[index];
      return each === undefined ? [] : [{ source, destination: each }];
    }),
  );
  return pairs.flat().slice(0, maxConnections);
}

/** Null: the default of a mesh that has no Mesh document. */
function appliedOf(
  { state }: CompiledRevision,
  { kind, namespace, name }: RuleRef,
): ExplainedConnection['ruleApplied'] {
  const stored = state.resources.get(`${kind}.${namespace ?? '-'}.${name}`);
  if (stored === undefined) return null;
  const { revision, appliedAt, appliedBy } = stored;
  return { revision, appliedAt, appliedBy };
}

function explainOne(input: {
  readonly release: CompiledRevision;
  readonly clock: Clock;
  readonly source: Candidate;
  readonly destination: DestinationCandidate;
  readonly probersOf: (node: NodeName) => readonly string[];
  readonly agentOf: (workload: WorkloadEntry) => AgentOfWorkload;
  /** Null: the only one of the service. */
  readonly dialledPort: number | null;
}): ExplainedConnection {
  const { release, clock, agentOf } = input;
  const { snapshot } = release;
  const source = endOf(input.source, agentOf);
  const destination = endOf(input.destination, agentOf);
  const { port } = destination;
  const { isMeshed: isSourceMeshed } = source;
  const { isMeshed: isDestinationMeshed } = destination;
  // Without an agent a source proves nothing: the registry's entry for its address can deny, but never allow.
  const claimed = registeredParty(source);
  const to = registeredParty(destination);
  const isOwn = areOneWorkload(claimed, to);
  const from: Party = isSourceMeshed ? claimed : { ...claimed, identity: null };
  const facts: Connection = { source: from, destination: to, port, isOwn };
  const enforcedBy: Enforcer[] = [
    ...(isSourceMeshed ? (['source'] as const) : []),
    ...(isDestinationMeshed ? (['destination'] as const) : []),
  ];
  const service = destination.service === null ? null : serviceName(destination.service);
  const { workload } = facts.destination;
  const mtls =
    isSourceMeshed || isOwn || !isDestinationMeshed || workload === null ? null : mtlsOf(snapshot, workload, port);
  const refusal = mtls?.mode === 'STRICT' ? strictRefusal(mtls.rule) : null;
  const decision = refusal ?? evaluate(snapshot, facts, clock, { trace: true });
  const ends = {
    source: { name: 'The source', party: claimed, isMeshed: isSourceMeshed },
    destination: { name: 'The destination', party: facts.destination, isMeshed: isDestinationMeshed },
  };
  const missing = isOwn ? null : missingProof(snapshot, { ...ends, port }, clock, decision.verdict);
  const notes = [
    ...(destination.choice === null ? [] : [destination.choice]),
    ...[source, destination].flatMap(({ workload }) => withdrawnNote(workload)),
    ...(isOwn ? [ownTraffic] : notesFor({ source, destination })),
    ...(isOwn ? [source] : [source, destination]).flatMap(unservedNote),
    ...probeNote(input),
    ...(isSourceMeshed && decision.verdict === 'allow' ? trafficNotes({ ...input, snapshot }) : []),
    ...(missing === null ? [] : [`This decides: ${missingProofText('the source', missing)} (${missingProofHint}).`]),
  ];
  return {
    facts,
    service,
    enforcedBy,
    decision,
    ruleApplied: appliedOf(release, decision.rule),
    // What is decided before any rule cannot be reversed by a fact that a rule matches.
    nearMisses: refusal === null && !isOwn ? nearMisses(snapshot, facts, clock) : [],
    notes,
  };
}

const ownTraffic = 'Source and destination are the same workload: agents let it pass, and no rule can refuse it.';

function withdrawnNote(entry: WorkloadEntry | null): string[] {
  if (entry === null || !isWithdrawn(entry.identity)) return [];
  const name = workloadName(entry);
  return [
    `The node of ${name}, ${entry.node}, was removed: agents refuse every tunnel from and to ${name}, whatever the rules say.`,
  ];
}

/** A program of the host has an address outside the mesh, and the controller does not know which one. */
function probeNote({
  source,
  destination,
  probersOf,
}: Pick<Parameters<typeof explainOne>[0], 'source' | 'destination' | 'probersOf'>): string[] {
  const node = destination.workload?.node ?? null;
  const probers = node === null || source.workload !== null ? [] : probersOf(node);
  if (probers.length === 0) return [];
  return [
    `Programs on ${node} that its agent's hostProbes names (${probers.join(', ')}) pass without a rule; their records have the path probe.`,
  ];
}

function registeredParty({ ip, workload }: Candidate): Party {
  if (workload === null) return { ip, identity: null, workload: null };
  return { ip, identity: workload.identity, workload: partyWorkload(workload) };
}

/** One end of the connection, and what its agent does. */
type End<Found extends Candidate> = Found & {
  readonly agent: AgentOfWorkload | null;
  /** It is to have an agent, and one has joined. */
  readonly isMeshed: boolean;
};

function endOf<Found extends Candidate>(
  found: Found,
  agentOf: (workload: WorkloadEntry) => AgentOfWorkload,
): End<Found> {
  const agent = found.workload?.protocol === 'hbone' ? agentOf(found.workload) : null;
  return { ...found, agent, isMeshed: agent?.hasAgent === true };
}

/** What is decided holds as soon as its agent does its work. */
function unservedNote({ workload, agent }: End<Candidate>): string[] {
  if (workload === null || agent === null || !agent.hasAgent || agent.problem === null) return [];
  return [`Now ${workloadName(workload)} on ${workload.node ?? ''} is not served: ${agent.problem}.`];
}

function notesFor({ source, destination }: Record<'source' | 'destination', End<Candidate>>): string[] {
  const missing = [source, destination].filter(({ agent }) => agent?.hasAgent === false);
  const notes = missing.map(
    ({ workload }) => `${workload?.node ?? ''}, the node of ${nameOf(workload)}, has no agent: none has joined for it.`,
  );
  if (!source.isMeshed && !destination.isMeshed) {
    const [first] = missing;
    const change =
      first === undefined
        ? 'give one side a node and a netns'
        : `join the host: culvert token create --node ${first.workload?.node ?? ''}`;
    notes.push(`No agent is on this path, so this decision is not enforced. To change that, ${change}.`);
  } else if (!source.isMeshed) {
    const who = source.workload === null ? 'The source is outside the mesh' : 'The source has no agent';
    notes.push(`${who}: it proves no identity, and only its address can match a rule.`);
  } else if (destination.agent !== null && !destination.isMeshed) {
    notes.push(
      "The source's agent evaluates the rules and then sends only through a tunnel, which nothing answers there: what is allowed fails too.",
    );
  } else if (!destination.isMeshed) {
    const what = destination.workload === null ? 'is outside the mesh' : 'has no agent';
    notes.push(
      `The destination ${what}: the traffic is not encrypted, and only the source's agent evaluates the rules.`,
    );
  }
  return notes;
}

function nameOf(workload: WorkloadEntry | null): string {
  return workload === null ? '' : workloadName(workload);
}
