import { buckets, busVerbs, controllerInboxPrefix, inboxPrefixFor, subjectFor } from '../../shared/bus/subjects.js';
import type { UserPermissions } from '../../shared/bus/nats-accounts.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Buckets that agents may read completely. */
const readableBuckets = [buckets.rules, buckets.registry] as const;

/**
 * The permissions of an agent's NATS user: publish on its own subjects, read and follow the buckets of rules and registry,
 * and receive replies under its own inbox prefix. It can write to no bucket, read neither the configuration nor the status
 * of others, and receive no replies to another node.
 *
 * The creator of a consumer chooses its deliver subject and the server does not check it, so an agent can have messages of
 * the readable buckets delivered to a foreign subject. Those messages keep their own subject (`$KV.…`), so handlers must
 * take the node from `parseSubject(message.subject)` and refuse a message without one.
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
 * The controller's permissions: everything in its account except the inboxes of agents, so that a bug in the controller
 * cannot read replies to agents.
 */
export const controllerPermissions: UserPermissions = {
  publish: {},
  subscribe: { allow: [`${controllerInboxPrefix}.>`, ...busVerbs.map((verb) => `culvert.v1.${verb}.*`)] },
};
