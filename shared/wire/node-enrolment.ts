import { createHash } from 'node:crypto';
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
 * The entries of the registry say only which pods are in the mesh, not which ones are still to come. It is signed for one node,
 * which asks the controller for it: every agent reads the bucket of the rules, so there is only an {@link EnrolmentNotice}.
 */
export type NodeEnrolment = {
  /** Rises with every change. */
  readonly version: number;
  /** With the label that brings their pods into the mesh, or with a pod that has it. */
  readonly namespaces: readonly string[];
  /** UIDs of pods of the node in these namespaces that are outside the mesh. */
  readonly outside: readonly string[];
};

/** With base64, twice, it fits into the smallest message of an operator's own nats-server, 1 MiB. */
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

/** What a node finds under `enrolmentKeyFor` in the bucket of the rules: that its list has this version. Not signed: a hint. */
export type EnrolmentNotice = {
  readonly version: number;
  /** SHA-256 of what the list says, in base64: a controller that starts again knows what it has said. */
  readonly digest: string;
};

const noticeSchema = z.object({ version: z.int().min(1), digest: z.base64() });

/** It asks for nothing but the list of the node that sends it. */
export const enrolmentRequestSchema = z.object({});

/** The answer to a request for the list, with the sealed list as text; null: the controller does not know it (yet). */
export const enrolmentAnswerSchema = z.object({ list: z.string().nullable() });

export function enrolmentDigest({ namespaces, outside }: Omit<NodeEnrolment, 'version'>): string {
  return createHash('sha256')
    .update(JSON.stringify([namespaces, outside]))
    .digest('base64');
}

export function encodeEnrolmentNotice(notice: EnrolmentNotice): Uint8Array {
  return encodeJson(notice);
}

/** Null: it is something else, such as the list itself, which a controller of the version before has there. */
export function decodeEnrolmentNotice(bytes: Uint8Array): EnrolmentNotice | null {
  try {
    return noticeSchema.safeParse(JSON.parse(new TextDecoder().decode(bytes))).data ?? null;
  } catch {
    return null;
  }
}

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
