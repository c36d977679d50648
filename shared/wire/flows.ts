import { z } from 'zod';
import { parseCidr } from '../address.js';
import { parseSpiffeId, type SpiffeId } from '../identity.js';
import { isReason, reasonInfo, type Reason } from '../reasons.js';
import { parseWorkloadName, type WorkloadName, type NodeName } from '../routing/names.js';

/**
 * Flow records: who talked to whom, added up. Agents send batches of them on `culvert.v1.flows.<node>`; the controller
 * keeps them for days and answers `GET /v1/flows` with them. Every connection between two workloads of the mesh is seen
 * twice: `outbound` by the agent of the source and `inbound` by the agent of the destination.
 */

/** One side of a flow. All three null: it was not known, or not kept apart any more. */
export type FlowParty = {
  /** The registered workload. */
  readonly workload: WorkloadName | null;
  /** What a certificate proved, or the registry's for a workload of the reporting node; null: unauthenticated. */
  readonly identity: SpiffeId | null;
  /**
   * Only when no workload has the address: its class, `198.18.7.0/24` or `fd00:1:2:3::/64`, or the name of the
   * ServiceEntry that has it, `namespace/name`. Tell them apart with {@link isNamedExternal}.
   */
  readonly cidr: string | null;
};

export type FlowRecord = {
  /** The node whose agent saw it: proved by the subject that it came on, never read from the message. */
  readonly node: NodeName;
  readonly direction: 'outbound' | 'inbound';
  readonly source: FlowParty;
  readonly destination: FlowParty;
  /** The port of the endpoint, not of a service's address. 0: several, or not known. */
  readonly port: number;
  readonly verdict: FlowVerdict;
  /** Why the connections ended as they did; `OK` also for those that are still open. */
  readonly reason: Reason;
  /** `SegmentationRule/name`; empty when no rule was asked. */
  readonly rule: string;
  /** Rules of mode audit that would have denied. */
  readonly audited: readonly string[];
  /** The newest revision that decided one of them. */
  readonly revision: number;
  /**
   * Connections that ended, or were seen open for the first time: each counts once. One that is cut by the rules after it
   * had been told as open counts once as allowed and once as denied.
   */
  readonly connections: number;
  /** Bytes of the applications, from source to destination. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Milliseconds since the epoch, by the agent's clock (by the server's, when the agent's is far off). */
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  /** On how many days (UTC) it was seen, in the answer of the controller only. */
  readonly daysSeen?: number;
};

/** `deny`: the mesh refused the connection or cut it. `allow`: it let it through, whatever became of it then. */
export type FlowVerdict = 'allow' | 'deny';

/** What one agent saw; the node is added by whoever knows it from the subject. */
export type ReportedFlow = Omit<FlowRecord, 'node' | 'daysSeen'>;

/** Part of a window of an agent. Batches of one `run` are sent one after the other, their `sequence` counts from 1. */
export type FlowBatch = {
  /** Names the process of the agent, at random: a sequence that was seen in the same run is a repetition. */
  readonly run: string;
  readonly sequence: number;
  /** The agent's clock at this attempt to send. */
  readonly sentAtMs: number;
  /** Connections since the last batch that are counted only in sums, or not at all. */
  readonly notKept: number;
  readonly flows: readonly ReportedFlow[];
};

/** What the mesh decided, as the reason of a connection's end tells it. */
export function verdictOf(reason: Reason): FlowVerdict {
  if (reason === 'NO_RULES_YET' || reason === 'LOOP_DETECTED') return 'deny';
  const { side, status } = reasonInfo(reason);
  return (side === 'policy' ? status !== 503 : status === 401) ? 'deny' : 'allow';
}

/** Whether {@link FlowParty.cidr} is the name of a ServiceEntry. */
export function isNamedExternal(cidr: string): boolean {
  return parseCidr(cidr) === undefined;
}

/** Two flows with the same key are one, and their numbers are added. */
export function flowKey(flow: ReportedFlow): string {
  const { direction, source, destination, port, verdict, reason, rule, audited } = flow;
  return [direction, endKey(source), endKey(destination), port, verdict, reason, rule, audited.join(' ')].join('|');
}

function endKey({ workload, identity, cidr }: FlowParty): string {
  return `${workload ?? ''} ${identity ?? ''} ${cidr ?? ''}`;
}

/** Flows in one batch; an agent with more sends several batches. */
export const maxFlowsPerBatch = 500;
/** More audited rules of one connection than this are not told. */
export const maxAuditedRules = 32;

/** `Kind/name` or `Kind/namespace/name`, or nothing. A batch with anything else is refused whole. */
export const flowRulePattern = /^[A-Za-z0-9./_-]{0,800}$/;

const count = z.int().min(0);
const workload = z.custom<WorkloadName>((value) => typeof value === 'string' && parseWorkloadName(value) !== undefined);
const identity = z.custom<SpiffeId>((value) => typeof value === 'string' && parseSpiffeId(value) !== undefined);
const reason = z.custom<Reason>((value) => typeof value === 'string' && isReason(value));
const ruleName = z.string().regex(flowRulePattern);

const end = z.object({
  workload: workload.nullable(),
  identity: identity.nullable(),
  cidr: z
    .string()
    .max(512)
    .regex(/^[a-z0-9.:-]+\/[a-z0-9.-]+$/)
    .nullable(),
});

const reportedFlow: z.ZodType<ReportedFlow> = z.object({
  direction: z.enum(['outbound', 'inbound']),
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
  flows: z.array(reportedFlow).max(maxFlowsPerBatch),
});
