import { buckets, busVerbs, controllerInboxPrefix, inboxPrefixFor, subjectFor } from '../../shared/bus/subjects.js';
import type { UserPermissions } from '../../shared/bus/nats-accounts.js';
import type { NodeName } from '../../shared/routing/names.js';

/** What agents read, whole. */
const readableBuckets = [buckets.rules, buckets.registry] as const;

/**
 * All that an agent's NATS user may do: publish its own subjects, read and follow the buckets of rules and registry,
 * hear replies under its own inbox prefix. It writes into no bucket, reads neither configuration nor the status of
 * others, and cannot hear another node's replies.
 *
 * A consumer's deliver subject is chosen by whoever creates it and not checked by the server, so an agent could have
 * messages of the readable buckets sent to a foreign subject. They keep their own subject there (`$KV.…`): handlers must
 * take the node from `parseSubject(message.subject)` and refuse what has none.
 */
export function agentPermissions(node: NodeName): UserPermissions {
  const inbox = inboxPrefixFor(node);
  return {
    publish: {
      allow: [
        ...busVerbs.map((verb) => subjectFor(verb, node)),
        ...readableBuckets.flatMap((bucket) => [
          `$JS.API.CONSUMER.CREATE.KV_${bucket}.*.$KV.${bucket}.>`,
          `$JS.API.DIRECT.GET.KV_${bucket}.$KV.${bucket}.>`,
          `$JS.FC.KV_${bucket}.>`,
        ]),
      ],
    },
    subscribe: { allow: [`${inbox}.>`] },
  };
}

/**
 * The controller's: everything in its account but the inboxes of agents, so that an error of ours cannot read replies
 * that are not for it.
 */
export const controllerPermissions: UserPermissions = {
  publish: {},
  subscribe: { allow: [`${controllerInboxPrefix}.>`, ...busVerbs.map((verb) => `culvert.v1.${verb}.*`)] },
};
