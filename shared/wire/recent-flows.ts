import { z } from 'zod';
import { packWire, unpackWire } from './flow-batch.js';
import { maxFlowsPerBatch, reportedFlowSchema, type ReportedFlow } from './flows.js';

/**
 * Verb `recent`: what an agent has counted since its last stored batch, flow by flow. A flow replaces the one that the same
 * run reported before, and the first stored batch after `after` that contains it takes its place. A flow that was reported
 * whole is named by its number from then on, because names are nearly all of a report.
 */
export type RecentFlowReport = {
  /** As in `FlowBatch`. */
  readonly run: string;
  /** The sequence of the last batch that was made before this report; 0: none. */
  readonly after: number;
  readonly sentAtMs: number;
  readonly flows: readonly ReportedFlow[];
  /** The numbers of `flows`, in their order; absent: an earlier version, or the controller is one. */
  readonly ids?: readonly number[];
  /** Flows whose number the controller knows. */
  readonly again?: readonly FlowAgain[];
};

/** Number, revision, connections, bytes sent, bytes received, first seen, last seen: sums as in `ReportedFlow`. */
export type FlowAgain = readonly [number, number, number, number, number, number, number];

/**
 * Between two reports: `most` as a rule, `least` while records are being read, and up to `slowest` in a mesh whose
 * number of agents would leave the controller little time for anything else.
 */
export const recentEveryMs = { least: 1000, most: 4000, slowest: 8000 } as const;

/** Flows in `again` of one report. */
export const maxFlowsAgain = 4000;

const count = z.int().min(0);

/** Checked by hand: a report has thousands of these. */
const flowAgain = z.custom<FlowAgain>(
  (value) =>
    Array.isArray(value) &&
    value.length === 7 &&
    value.every((item) => Number.isSafeInteger(item) && Number(item) >= 0),
);

const recentFlowReportSchema: z.ZodType<RecentFlowReport> = z.object({
  run: z.string().regex(/^[0-9a-f]{16}$/),
  after: count,
  sentAtMs: count,
  flows: z.array(reportedFlowSchema).max(maxFlowsPerBatch),
  ids: z.array(count).max(maxFlowsPerBatch).exactOptional(),
  again: z.array(flowAgain).max(maxFlowsAgain).exactOptional(),
});

/** The controller's answer. */
export const recentAnswerSchema = z.object({
  /** When to report again. */
  everyMs: z.int().min(recentEveryMs.least).max(recentEveryMs.slowest),
  /** The process that answers. What was reported to another one is in no memory any more, and is reported again. */
  instance: z.string().max(64).exactOptional(),
  /** It does not know a number: everything is to be reported whole. */
  isUnknown: z.literal(true).exactOptional(),
});
export type RecentAnswer = z.infer<typeof recentAnswerSchema>;

export function encodeRecentFlows(report: RecentFlowReport): Uint8Array {
  return packWire(report);
}

/** Throws CulvertError `WIRE_INVALID`. */
export function decodeRecentFlows(bytes: Uint8Array): RecentFlowReport {
  return unpackWire(recentFlowReportSchema, bytes);
}
