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
 * Answers carry roots and signing keys, so an agent believes none for having come through NATS: the controller signs
 * each, also a refusal, together with the subject and the hash of the request that it answers. An answer to another
 * node, another question or an earlier one does not verify.
 */

/** Bytes of JSON. In base64 it stays below the 1 MiB that nats-server takes by default. */
export const maxAnswerBytes = 700 * 1024;

/** What an answer belongs to: both are taken as they went over the wire. */
export type AskedAs = { readonly subject: string; readonly request: Uint8Array };

/** Errors: `PAYLOAD_TOO_LARGE`. */
export function sealAnswer(o: {
  readonly asked: AskedAs;
  readonly answer: unknown;
  readonly privateKeyPem: string;
}): Uint8Array {
  const payload = encodePayload(o.answer, maxAnswerBytes, 'the certificates of one answer');
  return encodeJson(signEnvelope(answerTo(o.asked), payload, o.privateKeyPem));
}

/** The JSON of the answer, when one of the keys signed it as the answer to just this. Errors: see {@link envelopeSchema}. */
export function openAnswer(o: {
  readonly asked: AskedAs;
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): Uint8Array {
  const envelope = decodeEnvelope(o.bytes, envelopeSchema, maxAnswerBytes);
  return verifiedPayload(answerTo(o.asked), envelope, o.publicKeysPem);
}

function answerTo({ subject, request }: AskedAs): SignedAs {
  return { context: 'culvert.answer.v1', about: `${subject} ${createHash('sha256').update(request).digest('hex')}` };
}
