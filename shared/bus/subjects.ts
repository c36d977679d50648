import { parseNodeName, type NodeName } from '../routing/names.js';
/**
 * Subjects and names on NATS. The subject of a message proves which node sent it: the server allows a node's user to
 * publish only on subjects that end in that node's token (see `agentPermissions`).
 */
export const busVerbs = ['sign', 'renew', 'status', 'flows', 'recent'] as const;
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

/** `culvert.v1.<verb>.<node>`. A dot in the node's name becomes `_`, which no node name contains. */
export function subjectFor(verb: BusVerb, node: NodeName): string {
  return `culvert.v1.${verb}.${nodeToken(node)}`;
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

/** The prefix of the controller's own inboxes. */
export const controllerInboxPrefix = '_INBOX_culvert-controller';

function nodeToken(node: NodeName): string {
  return node.replaceAll('.', '_');
}
