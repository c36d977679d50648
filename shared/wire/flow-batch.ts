import { gunzipSync, gzipSync } from 'node:zlib';
import type { z } from 'zod';
import { CulvertError } from '../errors.js';
import { flowBatchSchema, maxFlowsPerBatch, type FlowBatch, type ReportedFlow } from './flows.js';
import { decodeWire, encodeWire, maxWireBytes } from './requests.js';

/** A larger message is refused. Compressed batches have about a tenth of this size. */
export const maxFlowMessageBytes = 256 * 1024;
/** Maximum JSON characters of a batch's flows: well below `maxWireBytes`, with room for the other fields. */
const maxFlowText = maxWireBytes / 2;

/** Encodes a batch for transport and storage: JSON compressed with gzip, because the same names repeat often. */
export function encodeFlowBatch(batch: FlowBatch): Uint8Array {
  return packWire(batch);
}

/** Throws CulvertError `WIRE_INVALID`. Bounds memory, however far the bytes would expand. */
export function decodeFlowBatch(bytes: Uint8Array): FlowBatch {
  return unpackWire(flowBatchSchema, bytes);
}

/** A message as JSON compressed with gzip. */
export function packWire(value: unknown): Uint8Array {
  return gzipSync(encodeWire(value));
}

/** Throws CulvertError `WIRE_INVALID`. Bounds memory, however far the bytes would expand. */
export function unpackWire<Schema extends z.ZodType>(schema: Schema, bytes: Uint8Array): z.infer<Schema> {
  return decodeWire(schema, expand(bytes));
}

/** Splits flows, in order, into parts that each fit into one batch. */
export function splitFlows(flows: readonly ReportedFlow[]): ReportedFlow[][] {
  const parts: ReportedFlow[][] = [];
  let part: ReportedFlow[] = [];
  let length = 0;
  for (const flow of flows) {
    const size = JSON.stringify(flow).length;
    if (part.length > 0 && (part.length >= maxFlowsPerBatch || length + size > maxFlowText)) {
      parts.push(part);
      part = [];
      length = 0;
    }
    part.push(flow);
    length += size;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

function expand(bytes: Uint8Array): Uint8Array {
  try {
    if (bytes.length > maxFlowMessageBytes) throw new Error(`it has ${bytes.length} bytes`);
    return gunzipSync(bytes, { maxOutputLength: maxWireBytes });
  } catch (cause) {
    throw new CulvertError({
      code: 'WIRE_INVALID',
      message: 'a batch of flow records is unusable: it is too large or not gzip',
      hint: 'run the same version of culvert-agent and culvert-controller',
      cause,
    });
  }
}
