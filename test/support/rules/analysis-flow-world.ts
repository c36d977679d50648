import * as fc from 'fast-check';
import type { MeshParty } from '../../../controller/analysis/pairs/mesh-party.js';
import { connectionOf, predict } from '../../../controller/analysis/pairs/predict.js';
import type { RuleSet } from '../../../controller/analysis/pairs/rule-set.js';
import { formatRuleRef, type Clock } from '../../../shared/policy/connection.js';
import type { FlowParty, FlowRecord } from '../../../shared/wire/flows.js';
import { ip } from './policy-fixture.js';
import { nodeNamed, workloadNamed } from '../routing/names.js';

/** A flow record; times in days since 1970. */
export function flow(
  init: Partial<Omit<FlowRecord, 'source' | 'destination'>> & { source: FlowParty; destination: FlowParty },
): FlowRecord {
  return {
    node: nodeNamed('n1'),
    direction: 'outbound',
    port: 5432,
    verdict: 'allow',
    reason: 'OK',
    rule: 'Mesh/default',
    audited: [],
    revision: 1,
    connections: 1,
    bytesSent: 1,
    bytesReceived: 1,
    firstSeenMs: 0,
    lastSeenMs: 0,
    ...init,
  };
}

export function outside(cidr: string): FlowParty {
  return { workload: null, identity: null, cidr };
}

/** What the agents of both ends would record of a connection that works if the rules allow it. */
export function recordsOf(
  set: RuleSet,
  { source, destination, port }: { source: MeshParty; destination: MeshParty; port: number },
  clock: Clock,
  connections: number,
): FlowRecord[] {
  const decision = predict(set.snapshot, { source, destination, port }, clock);
  const proved = connectionOf({ source, destination, port }).source.identity;
  const seen = flow({
    source: endOf(source, proved),
    destination: endOf(destination, destination.party.identity),
    port,
    verdict: decision.verdict,
    reason: decision.reason,
    rule: formatRuleRef(decision.rule),
    audited: decision.audited.map(formatRuleRef),
    connections,
    lastSeenMs: connections * 3_600_000,
  });
  return [
    ...(source.isMeshed ? [seen] : []),
    ...(destination.isMeshed ? [{ ...seen, direction: 'inbound' as const }] : []),
  ];
}

function endOf({ party }: MeshParty, identity: FlowParty['identity']): FlowParty {
  const { workload } = party;
  if (workload !== null)
    return { workload: workloadNamed(`${workload.namespace}/${workload.name}`), identity, cidr: null };
  const isV6 = party.ip.includes(':');
  const cidr = isV6 ? `${ip(`${party.ip.split('::')[0] ?? ''}::`)}/64` : party.ip.replace(/\d+$/, '0/24');
  return { workload: null, identity, cidr };
}

/** Which of all pairs talk, on which port and how often. */
export const talks = fc.array(
  fc.record({
    source: fc.nat({ max: 40 }),
    destination: fc.nat({ max: 40 }),
    port: fc.integer({ min: 1, max: 9 }),
    connections: fc.integer({ min: 1, max: 5 }),
  }),
  { minLength: 1, maxLength: 12 },
);
