import type { Clock, Connection, Decision } from '../../../shared/policy/connection.js';
import { evaluate, type EvaluateOptions } from '../../../shared/policy/evaluate.js';
import { mtlsOf } from '../../../shared/policy/required-mtls.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { strictRefusal } from './strict-refusal.js';
import type { MeshParty } from './mesh-party.js';

export type PredictedConnection = {
  readonly source: MeshParty;
  readonly destination: MeshParty;
  /** Of the endpoint, never of a service's address. */
  readonly port: number;
};

/**
 * What the agents of a mesh with these rules would decide: the one evaluator, asked with the facts that the agents
 * would have. A source without an agent proves nothing, and a STRICT destination refuses it before any rule is asked.
 */
export function predict(
  snapshot: Snapshot,
  { source, destination, port }: PredictedConnection,
  clock: Clock,
  options: EvaluateOptions = {},
): Decision {
  const { workload } = destination.party;
  if (!source.isMeshed && destination.isMeshed && workload !== null) {
    const { mode, rule } = mtlsOf(snapshot, workload, port);
    if (mode === 'STRICT') return strictRefusal(rule);
  }
  return evaluate(snapshot, connectionOf({ source, destination, port }), clock, options);
}

/** The facts that the evaluator is asked about. */
export function connectionOf({ source, destination, port }: PredictedConnection): Connection {
  const { party } = source;
  return {
    source: source.isMeshed || party.identity === null ? party : { ...party, identity: null },
    destination: destination.party,
    port,
  };
}
