import { parseNodeName, type NodeName } from '../routing/names.js';
/**
 * Subjects and names on NATS. The subject of a message proves the node that sent it: the server lets a node's user
 * publish only subjects that end in that node's own token (see `agentPermissions`).
 */
export const busVerbs = ['sign', 'renew', 'status', 'flows'] as const;
export type BusVerb = (typeof busVerbs)[number];

export const buckets = {
  config: 'culvert_config',
  registry: 'culvert_registry',
  rules: 'culvert_rules',
  status: 'culvert_status',
} as const;

export const flowStream = 'CULVERT_FLOWS';

/** The key in `culvert_rules` that names the snapshot in force. */
export const rulesPointerKey = 'current';

/** `culvert.v1.<verb>.<node>`. A dot in a node's name becomes `_`, which no node name contains. */
export function subjectFor(verb: BusVerb, node: NodeName): string {
  return `culvert.v1.${verb}.${nodeToken(node)}`;
}

/** What the controller subscribes to hear one verb of every node. */
export function subjectForAllNodes(verb: BusVerb): string {
  return `culvert.v1.${verb}.*`;
}

/** The verb and the node that a received subject proves, or undefined when it is none of ours. */
export function parseSubject(subject: string): { verb: BusVerb; node: NodeName } | undefined {
  const [culvert, version, verb, token, ...rest] = subject.split('.');
  if (culvert !== 'culvert' || version !== 'v1' || token === undefined || rest.length > 0) return undefined;
  const known = busVerbs.find((candidate) => candidate === verb);
  const node = parseNodeName(token.replaceAll('_', '.'));
  return known === undefined || node === undefined ? undefined : { verb: known, node };
}

/** Replies to a node's requests go here and nowhere else; nobody but that node may subscribe to it. */
export function inboxPrefixFor(node: NodeName): string {
  return `_INBOX_culvert_${nodeToken(node)}`;
}

/**
 * Whether an answer to a message on `subject` may go to `replyTo`. Who asks names that subject, and the server does not
 * check it: an answer sent wherever he likes would be published with the permissions of whoever answers, into a bucket or
 * as an order to JetStream. So a node is answered in its own inbox only.
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
