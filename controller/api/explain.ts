import { setImmediate } from 'node:timers/promises';
import { nearMisses } from '../analysis/why/near-misses.js';
import { evaluate } from '../../shared/policy/evaluate.js';
import type { Clock, Connection, Party, RuleRef } from '../../shared/policy/connection.js';
import { areOneWorkload } from '../../shared/policy/own-traffic.js';
import { mtlsOf } from '../../shared/policy/required-mtls.js';
import { missingProof, missingProofHint, missingProofText } from '../analysis/pairs/missing-proof.js';
import { strictRefusal } from '../analysis/pairs/predict.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import { badRequest } from './api-error.js';
import type { Enforcer, ExplainedConnection, WhyAnswer } from './api-types.js';
import { findDestinations, findSources, type Candidate, type DestinationCandidate } from './party-candidates.js';
import { partyWorkload } from '../analysis/pairs/mesh-party.js';
import { serviceName } from '../../shared/routing/names.js';

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
  { release, entries }: { readonly release: CompiledRevision; readonly entries: readonly RegistryEntry[] },
  question: WhyQuestion,
  clock: Clock,
): Promise<WhyAnswer> {
  const { snapshot } = release;
  const sources = findSources(question.source, entries);
  const destinations = findDestinations(question.destination, question.port, entries);
  const pairs = destinations
    .flatMap((destination) => sources.map((source) => ({ source, destination })))
    .slice(0, maxConnections);
  const connections: ExplainedConnection[] = [];
  for (const { source, destination } of pairs) {
    connections.push(explainOne({ release, clock, source, destination }));
    await setImmediate();
  }
  const [first, ...others] = connections;
  if (first === undefined) throw badRequest('no workload with an address matches', 'name a workload with an address');
  const { revision, createdBy, createdAt } = snapshot;
  return { ...first, revision, appliedBy: createdBy, appliedAt: createdAt, others };
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
}): ExplainedConnection {
  const { release, clock, source, destination } = input;
  const { port } = destination;
  const { snapshot } = release;
  const isSourceMeshed = source.workload?.protocol === 'hbone';
  const isDestinationMeshed = destination.workload?.protocol === 'hbone';
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
    ...(isOwn ? [ownTraffic] : notesFor({ source, destination, isSourceMeshed, isDestinationMeshed })),
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

function registeredParty({ ip, workload }: Candidate): Party {
  if (workload === null) return { ip, identity: null, workload: null };
  return { ip, identity: workload.identity, workload: partyWorkload(workload) };
}

function notesFor(input: {
  readonly source: Candidate;
  readonly destination: Candidate;
  readonly isSourceMeshed: boolean;
  readonly isDestinationMeshed: boolean;
}): string[] {
  const { source, destination, isSourceMeshed, isDestinationMeshed } = input;
  const notes: string[] = [];
  if (!isSourceMeshed && !isDestinationMeshed) {
    notes.push(
      'No agent is on this path, so this decision is not enforced. To change that, give one side a node and a netns.',
    );
  } else if (!isSourceMeshed) {
    const who = source.workload === null ? 'The source is outside the mesh' : 'The source has no agent';
    notes.push(`${who}: it proves no identity, and only its address can match a rule.`);
  } else if (!isDestinationMeshed) {
    const what = destination.workload === null ? 'is outside the mesh' : 'has no agent';
    notes.push(
      `The destination ${what}: the traffic is not encrypted, and only the source's agent evaluates the rules.`,
    );
  }
  return notes;
}
