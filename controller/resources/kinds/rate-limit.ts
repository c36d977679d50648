import { z } from 'zod';
import { rateLimitBudgets } from '../../../shared/policy/traffic-documents.js';
import { hostField } from './destination-rule.js';
import { fieldNotes } from './field-notes.js';
import { namespacedNameField, namespaceField, portField, selectorField } from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';

const notYet = 'this version does not serve it';
const ofRegistered =
  'clients are workloads of the mesh, by what is registered of them: write namespace, serviceAccount or labels';

const mostPerSecond = 1_000_000;
const mostBurst = 1_000_000;
const mostConnections = 2_147_483_647;
/** What is read of a connection at once. */
const leastBytes = 65_536;
const mostBytes = 100_000_000_000;

const source = z
  .strictObject({
    namespace: namespaceField.exactOptional().describe('Namespace of the client.'),
    serviceAccount: namespacedNameField('billing/api').exactOptional().describe('Service account of the client.'),
    labels: selectorField.exactOptional().describe('Labels of the client, all of them.'),
  })
  .refine(
    (written) => Object.keys(written).length > 0,
    'is empty: name a namespace, a serviceAccount or labels, or leave out spec.from',
  )
  .register(fieldNotes, {
    example: '{ serviceAccount: billing/api }',
    openApi: { minProperties: 1 },
    refusedFields: {
      cidr: ofRegistered,
      node: ofRegistered,
      workload: 'a limit is for identities, and replicas have one: write serviceAccount, or labels of the one',
      segment: 'a limit names its clients itself: write namespace, serviceAccount or labels',
      external: 'an agent limits what its own workloads open',
      unauthenticated: 'an agent limits what its own workloads open',
    },
  });

/** Bounds connections to services, for each agent by itself. It refuses what the rules allow, and allows nothing. */
export const rateLimitSchema = z
  .strictObject({
    apiVersion: z.literal(culvertApiVersion).describe(apiVersionText),
    kind: z.literal('RateLimit').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        host: hostField.describe(
          'The services: a name in the namespace of the document, a whole name (`web.shop.svc.cluster.local`), or a wildcard over whole names (`*.shop.svc.cluster.local`, `*`).',
        ),
        ports: z
          .array(portField)
          .min(1, 'must not be empty: leave it out for every port')
          .exactOptional()
          .describe('Ports of the service, as clients dial them. Without it all.')
          .register(fieldNotes, { example: '[5432]' }),
        from: z
          .array(source)
          .min(1, 'must not be empty: leave it out for every client')
          .exactOptional()
          .describe('Clients, as alternatives. Without it all.')
          .register(fieldNotes, { example: '[{ serviceAccount: billing/api }]' }),
        per: z
          .enum(rateLimitBudgets)
          .default('pair')
          .describe(
            'Which connections have one budget. `source`: those of a service account, to all that `host` names. `destination`: those to a port of a service, of all clients. `pair`: those of a service account to a port of a service.',
          ),
        connectionsPerSecond: z
          .number()
          .min(0.001, 'must be at least 0.001')
          .max(mostPerSecond, `must be at most ${mostPerSecond}`)
          .exactOptional()
          .describe('New connections in a second that a budget has. Less than 1 is one in several seconds.')
          .register(fieldNotes, { example: '12' }),
        burst: z
          .int('must be a whole number')
          .min(1, 'must be at least 1')
          .max(mostBurst, `must be at most ${mostBurst}`)
          .exactOptional()
          .describe(
            'How many may come at once after a pause. Without it those of a second, and at least 1. It needs `connectionsPerSecond`.',
          )
          .register(fieldNotes, { example: '20', openApi: { type: 'integer', minimum: 1, maximum: mostBurst } }),
        maxConnections: z
          .int('must be a whole number')
          .min(1, 'must be at least 1')
          .max(mostConnections, `must be at most ${mostConnections}`)
          .exactOptional()
          .describe('How many connections of a budget may be open at once, with those that are being opened.')
          .register(fieldNotes, { example: '50', openApi: { type: 'integer', minimum: 1, maximum: mostConnections } }),
        bytesPerSecond: z
          .int('must be a whole number')
          .min(leastBytes, `must be at least ${leastBytes}`)
          .max(mostBytes, `must be at most ${mostBytes}`)
          .exactOptional()
          .describe(
            'Bytes in a second that all connections of a budget may send together, and as many that they may receive. What is more waits: its sender is slowed down.',
          )
          .register(fieldNotes, {
            example: '10000000',
            openApi: { type: 'integer', minimum: leastBytes, maximum: mostBytes },
          }),
        mode: z
          .enum(['enforce', 'audit'])
          .default('enforce')
          .describe('`audit` refuses nothing, and records and counts what the limit would have refused.'),
        scope: z
          .enum(['agent'])
          .default('agent')
          .describe('`agent`: each agent has budgets of its own, for the clients of its node.')
          .register(fieldNotes, {
            refusedValues: {
              mesh: `${notYet}: write agent, and for each node its share of the limit`,
            },
          }),
      })
      .superRefine(({ connectionsPerSecond, burst, maxConnections, bytesPerSecond }, context) => {
        if (connectionsPerSecond === undefined && maxConnections === undefined && bytesPerSecond === undefined) {
          const message = 'limits nothing: write connectionsPerSecond, maxConnections or bytesPerSecond';
          context.addIssue({ code: 'custom', path: [], message });
        }
        if (burst !== undefined && connectionsPerSecond === undefined) {
          const message = 'is of connectionsPerSecond, which is missing';
          context.addIssue({ code: 'custom', path: ['burst'], message });
        }
      })
      .describe(specText)
      .register(fieldNotes, {
        example: '{ host: db, connectionsPerSecond: 12, burst: 20 }',
        refusedFields: {
          exportTo:
            'a document in the namespace of the service is for all clients, one of another namespace for those of that namespace: write from to choose among them',
          to: 'the services are those that host names: write host, and ports for some of their ports',
        },
        openApi: {
          rules: {
            'limits nothing: write connectionsPerSecond, maxConnections or bytesPerSecond':
              'has(self.connectionsPerSecond) || has(self.maxConnections) || has(self.bytesPerSecond)',
            'burst is of connectionsPerSecond': '!has(self.burst) || has(self.connectionsPerSecond)',
          },
        },
      }),
  })
  .describe(
    'How many connections there may be to services, how many new ones and how many bytes in a second. All documents that are for a connection count. It never allows what the rules deny.',
  );

export type RateLimit = z.output<typeof rateLimitSchema>;
