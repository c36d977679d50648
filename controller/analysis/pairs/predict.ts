import type { Clock, Connection, Decision, RuleRef } from '../../../shared/policy/connection.js';
import { areOneWorkload } from '../../../shared/policy/own-traffic.js';
import { evaluate, type EvaluateOptions } from '../../../shared/policy/evaluate.js';
import { mtlsOf } from '../../../shared/policy/required-mtls.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { MeshParty } from './mesh-party.js';

export type PredictedConnection = {
  readonly source: MeshParty;
  readonly destination: MeshParty;
  /** The endpoint's port, never the one of a service's address. */
  readonly port: number;
};

/**
 * Predicts what agents with these rules would decide: the evaluator with the facts that agents would have. A source
 * without an agent proves no identity, and a STRICT destination refuses it before any rule is evaluated. What a workload
 * sends to itself meets no agent, so it is allowed with or without one.
 */
export function predict(
  snapshot: Snapshot,
  { source, destination, port }: PredictedConnection,
  clock: Clock,
  options: EvaluateOptions = {},
): Decision {
  const { workload } = destination.party;
  const isOwn = areOneWorkload(source.party, destination.party);
  if (!isOwn && !source.isMeshed && destination.isMeshed && workload !== null) {
    const { mode, rule } = mtlsOf(snapshot, workload, port);
    if (mode === 'STRICT') return strictRefusal(rule);
  }
  return evaluate(snapshot, connectionOf({ source, destination, port }), clock, options);
}

/** The facts that are passed to the evaluator. */
export function connectionOf({ source, destination, port }: PredictedConnection): Connection {
  const { party } = source;
  const connection = {
    source: source.isMeshed || party.identity === null ? party : { ...party, identity: null },
    destination: destination.party,
    port,
  };
  return areOneWorkload(party, destination.party) ? { ...connection, isOwn: true } : connection;
}

/**
 * The agent's refusal of plaintext to a STRICT destination, before any rule is evaluated. `demandedBy`: what makes it
 * STRICT, the mesh or a PeerAuthentication.
 */
export function strictRefusal(demandedBy: RuleRef): Decision {
  const where = demandedBy.kind === 'Mesh' ? 'the mesh is STRICT' : 'the destination is STRICT';
  const detail = `${where}, and the source has no agent that proves its identity`;
  return {
    verdict: 'deny',
    reason: 'SOURCE_UNKNOWN',
    rule: demandedBy,
    onChange: { kind: 'terminate' },
    audited: [],
    trace: [{ stage: 'default', rule: demandedBy, outcome: 'deny', detail }],
  };
}
