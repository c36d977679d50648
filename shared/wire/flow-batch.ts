import { gunzipSync, gzipSync } from 'node:zlib';
import { CulvertError } from '../errors.js';
import { flowBatchSchema, maxFlowsPerBatch, type FlowBatch, type ReportedFlow } from './flows.js';
import { decodeWire, encodeWire, maxWireBytes } from './requests.js';

/** Compressed, a batch is a tenth of it; a message larger than this is none of ours. */
export const maxFlowMessageBytes = 256 * 1024;
/** JSON characters of the flows of one batch: well below `maxWireBytes`, with room for the rest of the batch. */
const maxFlowText = maxWireBytes / 2;

/** A batch as it travels and is kept: JSON, compressed with gzip, because the same names come again and again. */
export function encodeFlowBatch(batch: FlowBatch): Uint8Array {
  return gzipSync(encodeWire(batch));
}

/** Throws CulvertError `WIRE_INVALID`. However much it would expand to, memory stays bounded. */
export function decodeFlowBatch(bytes: Uint8Array): FlowBatch {
  return decodeWire(flowBatchSchema, expand(bytes));
}

/** Parts that fit into one batch each, in their order. */
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
      message: 'A batch of flow records cannot be used: it is too large, or no gzip.',
      hint: 'run the same version of culvert-agent and culvert-controller',
      cause,
    });
  }
}
