import { createHash } from 'node:crypto';
import { parseNodeName, type NodeName } from '../routing/names.js';
/**
 * Subjects and names on NATS. The subject of a message proves which node sent it: the server allows a node's user to
 * publish only on subjects that end in that node's token (see `agentPermissions`).
 */
export const busVerbs = ['sign', 'renew', 'status', 'flows', 'recent', 'enrolment'] as const;
export type BusVerb = (typeof busVerbs)[number];

export const buckets = {
  config: 'culvert_config',
  registry: 'culvert_registry',
  rules: 'culvert_rules',
  status: 'culvert_status',
} as const;

export const flowStream = 'CULVERT_FLOWS';

/** The key in `culvert_rules` that points to the snapshot in force. */
export const rulesPointerKey = 'current';

/** What the keys in `culvert_rules` begin with that are each for one node (`shared/wire/node-enrolment.ts`). */
export const enrolmentKeyPrefix = 'enrolment';

export function enrolmentKeyFor(node: NodeName): string {
  return `${enrolmentKeyPrefix}.${nodeToken(node)}`;
}

/** `culvert.v1.<verb>.<node>`. A dot in the node's name becomes `_`, which no node name contains. */
export function subjectFor(verb: BusVerb, node: NodeName): string {
  return `culvert.v1.${verb}.${nodeToken(node)}`;
}

/** Every verb of one node. */
export function subjectForAllVerbs(node: NodeName): string {
  return `culvert.v1.*.${nodeToken(node)}`;
}

/** The subject on which the controller receives one verb from every node. */
export function subjectForAllNodes(verb: BusVerb): string {
  return `culvert.v1.${verb}.*`;
}

/** The verb and the node of a received subject; undefined when it is not one of these subjects. */
export function parseSubject(subject: string): { verb: BusVerb; node: NodeName } | undefined {
  const [culvert, version, verb, token, ...rest] = subject.split('.');
  if (culvert !== 'culvert' || version !== 'v1' || token === undefined || rest.length > 0) return undefined;
  const known = busVerbs.find((candidate) => candidate === verb);
  const node = parseNodeName(token.replaceAll('_', '.'));
  return known === undefined || node === undefined ? undefined : { verb: known, node };
}

/** Prefix of a node's inboxes. Replies to a node go only there, and no other node may subscribe to it. */
export function inboxPrefixFor(node: NodeName): string {
  return `_INBOX_culvert_${nodeToken(node)}`;
}

/**
 * Whether the answer to a message on `subject` may go to `replyTo`. The requester chooses the reply subject and the server
 * does not check it; the answer is published with the responder's permissions, so it could write into a bucket or command
 * JetStream. Therefore a node gets answers only in its own inbox.
 */
export function mayAnswerTo(replyTo: string, subject: string): boolean {
  const asker = parseSubject(subject);
  return replyTo.startsWith(asker === undefined ? '_INBOX' : `${inboxPrefixFor(asker.node)}.`);
}

/** The node that an inbox belongs to; undefined when it is no node's. */
export function nodeOfInbox(subject: string): NodeName | undefined {
  const [, token] = /^_INBOX_culvert_([^.]+)\./.exec(subject) ?? [];
  return token === undefined ? undefined : parseNodeName(token.replaceAll('_', '.'));
}

/** How many consumers a node may have in one stream. Its agent needs two, and two more while another process takes over. */
export const consumersOfNode = 8;

/**
 * What the names of a node's consumers begin with. A hash, because a permission names each of them, and all permissions of a
 * node have to fit into one line of 4 KiB, which is all that nats-server reads of a client before it knows it.
 */
export function consumerPrefixFor(node: NodeName): string {
  return createHash('sha256').update(node).digest('base64url').slice(0, 20);
}

/** Every name that a consumer with this prefix may have. */
export function consumerNamesOf(prefix: string): string[] {
  return Array.from({ length: consumersOfNode }, (_, index) => `${prefix}-${index}`);
}

/** The stream behind a bucket. */
export function bucketStream(bucket: string): string {
  return `KV_${bucket}`;
}

/** What the controller's own inboxes begin with; each process adds a part that no node knows. */
export const controllerInboxPrefix = '_INBOX_culvert-controller';

function nodeToken(node: NodeName): string {
  return node.replaceAll('.', '_');
}
