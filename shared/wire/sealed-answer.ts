import { createHash } from 'node:crypto';
import {
  decodeEnvelope,
  encodeJson,
  encodePayload,
  envelopeSchema,
  signEnvelope,
  verifiedPayload,
  type SignedAs,
} from './signed-envelope.js';

/**
 * The controller signs each answer. Answers contain roots and signing keys, and NATS is transport only and is not trusted
 * for them. The signature also covers the subject and the hash of the request, so an answer to another node, to another
 * request or to an earlier one does not verify. Refusals are signed too.
 */

/** Maximum bytes of JSON. In base64 it stays below the default limit of nats-server, 1 MiB. */
export const maxAnswerBytes = 700 * 1024;

/** The request that an answer belongs to: its subject and its exact bytes. */
export type AskedAs = { readonly subject: string; readonly request: Uint8Array };

/** Errors: `PAYLOAD_TOO_LARGE`. */
export function sealAnswer(init: {
  readonly asked: AskedAs;
  readonly answer: unknown;
  readonly privateKeyPem: string;
}): Uint8Array {
  const payload = encodePayload(init.answer, maxAnswerBytes, 'the certificates of one answer');
  return encodeJson(signEnvelope(answerTo(init.asked), payload, init.privateKeyPem));
}

/** Returns the JSON of the answer if one of the keys signed it for this request. Errors: see {@link envelopeSchema}. */
export function openAnswer(init: {
  readonly asked: AskedAs;
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): Uint8Array {
  const envelope = decodeEnvelope(init.bytes, envelopeSchema, maxAnswerBytes);
  return verifiedPayload(answerTo(init.asked), envelope, init.publicKeysPem);
}

function answerTo({ subject, request }: AskedAs): SignedAs {
  return { context: 'culvert.answer.v1', about: `${subject} ${createHash('sha256').update(request).digest('hex')}` };
}
