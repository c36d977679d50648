import { consumerCreatedSubjects } from './consumer-sweep.js';
import {
  bucketStream,
  buckets,
  busVerbs,
  consumerNamesOf,
  consumerPrefixFor,
  controllerInboxPrefix,
  inboxPrefixFor,
  subjectForAllVerbs,
} from '../../shared/bus/subjects.js';
import type { UserPermissions } from '../../shared/bus/nats-accounts.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Buckets that agents may read completely. */
const readableBuckets = [buckets.rules, buckets.registry] as const;

/**
 * The permissions of an agent's NATS user: publish on its own subjects, read and follow the buckets of rules and registry,
 * and receive replies under its own inbox prefix. It can write to no bucket, read neither the configuration nor the status
 * of others, and receive no replies to another node.
 *
 * It may make, look at and remove consumers of those buckets under its own names only. `anyConsumer`: it may make them under any
 * name, which agents of the version before need.
 *
 * The creator of a consumer chooses its deliver subject and the server does not check it, so an agent can have messages of
 * the readable buckets delivered to a foreign subject. Those messages keep their own subject (`$KV.…`), so handlers must
 * take the node from `parseSubject(message.subject)` and refuse a message without one.
 */
export function agentPermissions(node: NodeName, { anyConsumer = false } = {}): UserPermissions {
  const inbox = inboxPrefixFor(node);
  const names = consumerNamesOf(consumerPrefixFor(node));
  return {
    publish: {
      allow: [
        subjectForAllVerbs(node),
        ...readableBuckets.flatMap((bucket) => [
          ...(anyConsumer
            ? [`$JS.API.CONSUMER.CREATE.${bucketStream(bucket)}.*.$KV.${bucket}.>`]
            : names.map((name) => `$JS.API.CONSUMER.*.${bucketStream(bucket)}.${name}`)),
          `$JS.API.DIRECT.GET.${bucketStream(bucket)}.$KV.${bucket}.>`,
          `$JS.FC.${bucketStream(bucket)}.>`,
        ]),
      ],
    },
    subscribe: { allow: [`${inbox}.>`] },
  };
}

/**
 * The controller's permissions: everything in its account but the inboxes of agents, so that a bug in the controller
 * cannot read replies to agents. It receives requests of agents, its own answers, and word of each new consumer.
 */
export const controllerPermissions: UserPermissions = {
  publish: {},
  subscribe: {
    allow: [
      `${controllerInboxPrefix}.>`,
      ...busVerbs.map((verb) => `culvert.v1.${verb}.*`),
      ...consumerCreatedSubjects,
    ],
  },
};
