import { z } from 'zod';
import type { NodeName } from '../routing/names.js';
import {
  decodeEnvelope,
  encodeJson,
  encodePayload,
  envelopeSchema,
  parsePayload,
  signEnvelope,
  verifiedPayload,
  type SignedAs,
} from './signed-envelope.js';

/**
 * Which pods of a cluster wait for the agent of their node before they start: those of these namespaces, but for these pods.
 * It is signed for one node, under `enrolmentKeyFor` in the bucket of the rules: the entries of the registry say only which
 * pods are in the mesh, not which ones are still to come.
 */
export type NodeEnrolment = {
  /** Rises with every change. */
  readonly version: number;
  /** With the label that brings their pods into the mesh, or with a pod that has it. */
  readonly namespaces: readonly string[];
  /** UIDs of pods of the node in these namespaces that are outside the mesh. */
  readonly outside: readonly string[];
};

/** With base64 it fits into the smallest message of an operator's own nats-server, 1 MiB. */
const maxEnrolmentBytes = 512 * 1024;

/** A name that a namespace of Kubernetes can have (RFC 1123). */
export function isNamespaceName(text: string): boolean {
  return /^[a-z0-9-]{1,63}$/.test(text);
}

/** What a UID of a pod looks like; the UID of a static pod is a hash. */
export function isPodUid(text: string): boolean {
  return /^[A-Za-z0-9._-]{1,128}$/.test(text);
}

/** Other fields that this version does not know are passed over; what must not be is in `requires`, as nothing is yet. */
const enrolmentSchema = z.object({
  requires: z.array(z.never('requires what this version does not know')).exactOptional(),
  version: z.int().min(1),
  namespaces: z.array(z.string().refine(isNamespaceName)).readonly(),
  outside: z.array(z.string().refine(isPodUid)).readonly(),
});

const asEnrolment = (node: NodeName): SignedAs => ({ context: 'culvert.enrolment.v1', about: node });

/** Errors: `PAYLOAD_TOO_LARGE`. */
export function sealNodeEnrolment(init: {
  readonly node: NodeName;
  readonly enrolment: NodeEnrolment;
  readonly privateKeyPem: string;
}): Uint8Array {
  const payload = encodePayload(init.enrolment, maxEnrolmentBytes, `the pods of ${init.node} that wait for its agent`);
  return encodeJson(signEnvelope(asEnrolment(init.node), payload, init.privateKeyPem));
}

/** Opens what one of the keys (PEM) signed for this node. Errors: see {@link envelopeSchema}. */
export function openNodeEnrolment(init: {
  readonly node: NodeName;
  readonly bytes: Uint8Array;
  readonly publicKeysPem: readonly string[];
}): NodeEnrolment {
  const envelope = decodeEnvelope(init.bytes, envelopeSchema, maxEnrolmentBytes);
  const payload = verifiedPayload(asEnrolment(init.node), envelope, init.publicKeysPem);
  return parsePayload(payload, enrolmentSchema, 'list of pods that wait for the agent');
}
