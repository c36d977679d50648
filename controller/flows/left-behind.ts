import { rm } from 'node:fs/promises';
import { z } from 'zod';
import type { Bus } from '../../shared/bus/bus.js';
import { subjectFor } from '../../shared/bus/subjects.js';
import { readPrivateFile, writePrivateFile } from '../../shared/private-file.js';
import type { NodeName } from '../../shared/routing/names.js';
import { decodeFlowBatch, encodeFlowBatch, splitFlows } from '../../shared/wire/flow-batch.js';
import type { FlowBatch, ReportedFlow } from '../../shared/wire/flows.js';
import { nodeName } from '../../shared/wire/requests.js';
import type { FlowIndex } from './flow-index.js';

const storeTimeoutMs = 10_000;

/** What one node left, in the form in which the stream has it. */
export type LeftBatch = { readonly node: NodeName; readonly batch: FlowBatch };

/**
 * Stores what agents had reported and will perhaps not store, in their name: only the stream survives this process. A batch that
 * could not be stored is made again at the next call, and no other one is. Rejects with the first error of the bus.
 */
export async function storeLeftBehind(o: {
  readonly bus: Bus;
  readonly index: FlowIndex;
  readonly nowMs: () => number;
  /** What such a node left is dropped: it would not be read again. */
  readonly isOut: (node: NodeName) => boolean;
}): Promise<void> {
  const { bus, index, nowMs, isOut } = o;
  for (const { node, stored, ...left } of index.leftBehind({ isEnding: false })) {
    if (isOut(node)) {
      index.forgetRecent(node);
      continue;
    }
    for (const flows of splitFlows(left.flows)) {
      const batch = encodeFlowBatch(batchOf({ ...left, flows }, nowMs()));
      await bus.store(subjectFor('flows', node), batch, { timeoutMs: storeTimeoutMs });
      stored(flows);
    }
  }
  index.settleEnded();
}

const fileSchema = z.array(z.object({ node: nodeName, batch: z.base64() }));

/**
 * Writes all that the stream lacks to a file, for the next process: NATS may end at the same moment as this one. Errors:
 * `STATE_WRITE`.
 */
export async function saveLeftBehind(path: string, index: FlowIndex, nowMs: number): Promise<void> {
  const saved = index.leftBehind({ isEnding: true }).flatMap(({ node, ...left }) =>
    splitFlows(left.flows).map((flows) => {
      const batch = Buffer.from(encodeFlowBatch(batchOf({ ...left, flows }, nowMs))).toString('base64');
      return { node, batch } satisfies z.input<typeof fileSchema>[number];
    }),
  );
  await writePrivateFile(path, `${JSON.stringify(saved)}\n`);
}

/** What the last process saved; none without a file. Throws for a damaged one. */
export async function readLeftBehind(path: string): Promise<LeftBatch[]> {
  const text = await readPrivateFile(path);
  if (text === undefined) return [];
  return fileSchema
    .parse(JSON.parse(text))
    .map(({ node, batch }) => ({ node, batch: decodeFlowBatch(Buffer.from(batch, 'base64')) }));
}

export async function dropLeftBehind(path: string): Promise<void> {
  await rm(path, { force: true });
}

function batchOf(
  { run, after, flows }: { readonly run: string; readonly after: number; readonly flows: readonly ReportedFlow[] },
  sentAtMs: number,
): FlowBatch {
  return { run, sequence: Math.max(1, after), sentAtMs, notKept: 0, leftAfter: after, flows };
}
