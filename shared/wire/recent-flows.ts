import { z } from 'zod';
import { packWire, unpackWire } from './flow-batch.js';
import { maxFlowsPerBatch, reportedFlowSchema, type ReportedFlow } from './flows.js';

/**
 * Verb `recent`: what an agent has counted since its last stored batch, flow by flow. A flow replaces the one that the same
 * run reported before, and the first stored batch after `after` that contains it takes its place. Not stored.
 */
export type RecentFlowReport = {
  /** As in `FlowBatch`. */
  readonly run: string;
  /** The sequence of the last batch that was made before this report; 0: none. */
  readonly after: number;
  readonly sentAtMs: number;
  readonly flows: readonly ReportedFlow[];
};

/** Between two reports: `most` as a rule, `least` while records are being read. */
export const recentEveryMs = { least: 1000, most: 4000 } as const;

const count = z.int().min(0);

export const recentFlowReportSchema: z.ZodType<RecentFlowReport> = z.object({
  run: z.string().regex(/^[0-9a-f]{16}$/),
  after: count,
  sentAtMs: count,
  flows: z.array(reportedFlowSchema).max(maxFlowsPerBatch),
});

/** The controller's answer: when to report again. */
export const recentAnswerSchema = z.object({
  everyMs: z.int().min(recentEveryMs.least).max(recentEveryMs.most),
});
export type RecentAnswer = z.infer<typeof recentAnswerSchema>;

export function encodeRecentFlows(report: RecentFlowReport): Uint8Array {
  return packWire(report);
}

/** Throws CulvertError `WIRE_INVALID`. */
export function decodeRecentFlows(bytes: Uint8Array): RecentFlowReport {
  return unpackWire(recentFlowReportSchema, bytes);
}
