import { z } from 'zod';
import { ipBytes, isIpv6, parseCidr, parseIp, type IpAddress } from '../address.js';
import { parseSpiffeId, type SpiffeId } from '../identity.js';
import { isReason, reasonInfo, type Reason } from '../reasons.js';
import { parseWorkloadName, type WorkloadName, type NodeName } from '../routing/names.js';

/**
 * Flow records: connections summed by source, destination and outcome. Agents send them in batches on
 * `culvert.v1.flows.<node>`; the controller keeps them for days and serves them at `GET /v1/flows`. A connection between
 * two workloads is recorded twice: `outbound` by the source's agent and `inbound` by the destination's agent.
 */

/** One side of a flow. All fields null: it was unknown, or aggregated. */
export type FlowParty = {
  /** The registered workload. */
  readonly workload: WorkloadName | null;
  /** Proved by a certificate, or from the registry for a workload of the reporting node; null: unauthenticated. */
  readonly identity: SpiffeId | null;
  /**
   * Set only when no workload has the address: its network, `198.18.7.0/24` or `fd00:1:2:3::/64`, or the name of its
   * ServiceEntry, `namespace/name`. {@link isNamedExternal} tells them apart.
   */
  readonly cidr: string | null;
};

export type FlowRecord = {
  /** The node whose agent recorded it: taken from the message's subject, which proves it, never from its content. */
  readonly node: NodeName;
  readonly direction: 'outbound' | 'inbound';
  /** A program of the node's host opened them that its agent lets pass without a rule (`hostProbes`); absent: none did. */
  readonly probe?: true;
  readonly source: FlowParty;
  readonly destination: FlowParty;
  /** The port of the endpoint, not of a service's address. 0: several, or unknown. */
  readonly port: number;
  readonly verdict: FlowVerdict;
  /** Why the connections ended; `OK` also for open ones. */
  readonly reason: Reason;
  /** `SegmentationRule/name`; empty when no rule was evaluated. */
  readonly rule: string;
  /** Rules in mode audit that would have denied. */
  readonly audited: readonly string[];
  /** The newest revision that decided one of the connections. */
  readonly revision: number;
  /**
   * Connections that ended or were reported open for the first time; each counts once. A connection that was reported open
   * and is then terminated by a rule counts once as allowed and once as denied.
   */
  readonly connections: number;
  /** Application bytes from source to destination. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Milliseconds since the epoch, by the agent's clock, or by the server's when the agent's is far off. */
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  /** On how many days (UTC) it was seen. Only in the controller's answers. */
  readonly daysSeen?: number;
  /**
   * Only in the controller's answers. `both`: an agent sees each of the two ends, and both tell it with the same outcome.
   * `one`: only this agent does, or it speaks for a workload of which the controller does not know that it ran there. Absent:
   * only one agent can see it, or one agent sees both ends.
   */
  readonly toldBy?: 'both' | 'one';
};

/** `deny`: the mesh refused or terminated the connection. `allow`: the mesh let it through, however it ended. */
export type FlowVerdict = 'allow' | 'deny';

/** A flow as an agent reports it. The controller adds the node from the subject. */
export type ReportedFlow = Omit<FlowRecord, 'node' | 'daysSeen' | 'toldBy'>;

/** A batch of flows from one agent. Batches of a `run` are sent in order, with a `sequence` that counts from 1. */
export type FlowBatch = {
  /** Random identifier of the agent process. A sequence seen before in the same run is a repetition. */
  readonly run: string;
  readonly sequence: number;
  /** The agent's clock when it sent this. */
  readonly sentAtMs: number;
  /** Connections since the last batch that were aggregated or not recorded. */
  readonly notKept: number;
  /** Connections that are in no record, because the agent was killed or the store refused them; absent: none. */
  readonly lost?: number;
  /** Earlier runs on the node that were killed; absent: none. */
  readonly lostRuns?: readonly LostRun[];
  /**
   * Set in a batch that the controller stores: what it had in reports and no batch contains. It replaces nothing, and the
   * next batch of the run that contains a flow replaces it. Value: the sequence of the last batch before the reports.
   */
  readonly leftAfter?: number;
  readonly flows: readonly ReportedFlow[];
};

/** An agent that was killed. */
export type LostRun = {
  readonly run: string;
  /** Connections that it had put into no stored batch. They are lost, except those that the controller has from reports. */
  readonly connections: number;
  /** Of these, those that it had not reported either. `lost` contains them. */
  readonly unreported: number;
};

/** The mesh's verdict, derived from the reason of a connection's end. */
export function verdictOf(reason: Reason): FlowVerdict {
  if (reason === 'NO_RULES_YET' || reason === 'LOOP_DETECTED') return 'deny';
  const { side, status } = reasonInfo(reason);
  return (side === 'policy' ? status !== 503 : status === 401) ? 'deny' : 'allow';
}

/** `worked`: a connection that ended like this was allowed and had reached the application. */
export function outcomeOf({ verdict, reason }: Pick<FlowRecord, 'verdict' | 'reason'>): 'worked' | 'failed' | 'denied' {
  if (verdict === 'deny') return 'denied';
  const { side } = reasonInfo(reason);
  return side === 'none' || side === 'client' || endsOfWorking.has(reason) ? 'worked' : 'failed';
}

const endsOfWorking: ReadonlySet<Reason> = new Set([
  'PEER_RESET',
  'DRAIN',
  'IDLE_TIMEOUT',
  'MAX_DURATION',
  'POLICY_TERMINATED',
]);

/**
 * The network that represents an address outside the mesh in flow records: /24 for IPv4 and /64 for IPv6, the smallest
 * that is routed separately. So a record identifies no person's device, and a scan makes few records.
 */
export function addressClass(ip: IpAddress): string {
  if (!isIpv6(ip)) return `${ip.slice(0, ip.lastIndexOf('.'))}.0/24`;
  const bytes = ipBytes(ip);
  const groups = [0, 2, 4, 6].map((at) => (((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)).toString(16));
  return `${parseIp(`${groups.join(':')}::`) ?? '::'}/64`;
}

/** Whether {@link FlowParty.cidr} is the name of a ServiceEntry. */
export function isNamedExternal(cidr: string): boolean {
  return parseCidr(cidr) === undefined;
}

/** Flows with the same key are one flow; their counters are summed. */
export function flowKey(flow: ReportedFlow): string {
  const { direction, probe, source, destination, port, verdict, reason, rule, audited } = flow;
  return [
    probe === true ? 'probe' : direction,
    endKey(source),
    endKey(destination),
    port,
    verdict,
    reason,
    rule,
    audited.join(' '),
  ].join('|');
}

function endKey({ workload, identity, cidr }: FlowParty): string {
  return `${workload ?? ''} ${identity ?? ''} ${cidr ?? ''}`;
}

/** Flows in one batch; an agent with more sends several batches. */
export const maxFlowsPerBatch = 500;
/** Killed runs in one batch. */
export const maxLostRuns = 16;
/** Audited rules per connection that are reported. */
export const maxAuditedRules = 32;

/** `Kind/name`, `Kind/namespace/name` or empty. A batch with anything else is refused whole. */
export const flowRulePattern = /^[A-Za-z0-9./_-]{0,800}$/;

const count = z.int().min(0);
export const workloadNameSchema = z.custom<WorkloadName>(
  (value) => typeof value === 'string' && parseWorkloadName(value) !== undefined,
);
export const spiffeIdSchema = z.custom<SpiffeId>(
  (value) => typeof value === 'string' && parseSpiffeId(value) !== undefined,
);
const reason = z.custom<Reason>((value) => typeof value === 'string' && isReason(value));
const ruleName = z.string().regex(flowRulePattern);

const end = z.object({
  workload: workloadNameSchema.nullable(),
  identity: spiffeIdSchema.nullable(),
  cidr: z
    .string()
    .max(512)
    .regex(/^[a-z0-9.:-]+\/[a-z0-9.-]+$/)
    .nullable(),
});

export const reportedFlowSchema: z.ZodType<ReportedFlow> = z.object({
  direction: z.enum(['outbound', 'inbound']),
  probe: z.literal(true).exactOptional(),
  source: end,
  destination: end,
  port: z.int().min(0).max(65_535),
  verdict: z.enum(['allow', 'deny']),
  reason,
  rule: ruleName,
  audited: z.array(ruleName.min(1)).max(maxAuditedRules),
  revision: count,
  connections: count,
  bytesSent: count,
  bytesReceived: count,
  firstSeenMs: count,
  lastSeenMs: count,
});

/** Unknown fields are ignored, as in every message between agent and controller. */
export const flowBatchSchema: z.ZodType<FlowBatch> = z.object({
  run: z.string().regex(/^[0-9a-f]{16}$/),
  sequence: z.int().min(1),
  sentAtMs: count,
  notKept: count,
  lost: count.exactOptional(),
  lostRuns: z
    .array(z.object({ run: z.string().regex(/^[0-9a-f]{16}$/), connections: count, unreported: count }))
    .max(maxLostRuns)
    .exactOptional(),
  leftAfter: count.exactOptional(),
  flows: z.array(reportedFlowSchema).max(maxFlowsPerBatch),
});
