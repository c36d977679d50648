import { z } from 'zod';
import { completeHost, isWildcard } from '../../../shared/routing/service-hosts.js';
import { durationField } from './duration-field.js';
import { exportToField, hostField, subsetNameField } from './destination-rule.js';
import { fieldNotes } from './field-notes.js';
import { labelsField, namespaceField, networkField, portField } from './field-schemas.js';
import { routeFault } from './route-fault.js';
import { percentageField } from './percentage-field.js';
import { routeMirror } from './route-mirror.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';
import { istioNetworkingApiVersions } from './service-entry.js';

const notYet = 'this version does not serve it';

const gateways = z
  .array(z.literal('mesh'))
  .exactOptional()
  .describe('`mesh` alone: the route is for members of the mesh, as without it.');

const match = z
  .strictObject({
    port: portField.exactOptional().describe('Port of the service, as clients dial it.'),
    sourceLabels: labelsField.exactOptional().describe('Labels of the client, all of them.'),
    sourceNamespace: namespaceField.exactOptional().describe('Namespace of the client.'),
    destinationSubnets: z
      .array(networkField)
      .min(1, 'must not be empty: leave it out')
      .exactOptional()
      .describe('Networks, one of which has the address of the service that was dialled.'),
    gateways,
  })
  .register(fieldNotes, { example: '{ sourceLabels: { app: api } }' });

const destination = z
  .strictObject({
    host: hostField.describe('The service that `spec.hosts` names: connections go to its endpoints or to a subset.'),
    subset: subsetNameField
      .exactOptional()
      .describe('A subset of a DestinationRule for the service. Without it all endpoints.'),
    port: z
      .strictObject({ number: portField.describe('Port of the service.') })
      .exactOptional()
      .describe('The port that was dialled, where each `match` of the route names it: no connection gets another port.')
      .register(fieldNotes, { example: '{ number: 80 }' }),
  })
  .register(fieldNotes, { example: '{ host: web, subset: v2 }' });

const weighted = z
  .strictObject({
    destination: destination.describe('Where connections go.'),
    weight: z
      .int('must be a whole number')
      .min(0, 'must not be negative')
      .max(1_000_000, 'must be at most 1000000')
      .register(fieldNotes, { example: '90', openApi: { type: 'integer', minimum: 0, maximum: 1_000_000 } })
      .exactOptional()
      .describe(
        'Share of the connections, relative to the other weights. Without it 0, or all for an only destination.',
      ),
  })
  .register(fieldNotes, { example: '{ destination: { host: web, subset: v2 }, weight: 10 }' });

const retries = z
  .strictObject({
    attempts: z
      .int('must be a whole number')
      .min(0, 'must not be negative')
      .max(10, 'must be at most 10')
      .describe('How many more endpoints are tried when one cannot be reached. 0: none.')
      .register(fieldNotes, { example: '2', openApi: { type: 'integer', minimum: 0, maximum: 10 } }),
    perTryTimeout: durationField('1s', 1)
      .exactOptional()
      .describe('How long connecting to one of them may take. `connectTimeout` counts where it is shorter.'),
    retryOn: z
      .enum(['connect-failure'])
      .exactOptional()
      .describe(
        '`connect-failure` is what is done anyway: only while no byte of the client has reached an application.',
      )
      .register(fieldNotes, { limits: '`connect-failure` alone: other conditions of Istio are about HTTP' }),
  })
  .register(fieldNotes, {
    example: '{ attempts: 2, perTryTimeout: 1s }',
    refusedFields: {
      retryRemoteLocalities: 'the endpoints that are near enough are those of the service: leave it out',
      retryIgnorePreviousHosts: 'an endpoint that failed is never tried again by the same connection: leave it out',
      backoff: 'another endpoint is tried at once, within retryBudget of a DestinationRule: leave it out',
    },
  });

const tcpRoute = z
  .strictObject({
    match: z.array(match).exactOptional().describe('Alternatives. Without any the route is for all connections.'),
    route: z
      .array(weighted)
      .min(1, 'must have at least one destination')
      .superRefine((choices, context) => {
        if (choices.length < 2 || choices.some(({ weight = 0 }) => weight > 0)) return;
        context.addIssue({ code: 'custom', message: 'has no weight above 0, so no connection would go anywhere' });
      })
      .describe('Among which destinations connections are shared, each by its weight.')
      .register(fieldNotes, { example: '[{ destination: { host: web, subset: v2 } }]' }),
    retries: retries
      .exactOptional()
      .describe(
        'How often another endpoint is tried, in place of `connectRetries` of the agent. Only of `culvert.dev/v1`: Istio has it for HTTP.',
      ),
    timeout: durationField('5s', 1)
      .exactOptional()
      .describe(
        'How long it may take until an endpoint is connected, all tries together. Only of `culvert.dev/v1`: Istio has it for HTTP.',
      ),
    fault: routeFault
      .exactOptional()
      .describe(
        'What is done on purpose to some of these connections, to see what clients make of it. Only of `culvert.dev/v1`: Istio has it for HTTP.',
      ),
    mirror: routeMirror
      .exactOptional()
      .describe(
        'A shadow that gets a copy of what clients send on some of these connections. Its answers are dropped, and it never holds a connection up. Only of `culvert.dev/v1`: Istio has it for HTTP.',
      ),
    mirrorPercentage: percentageField
      .exactOptional()
      .describe('Which share of the new connections is copied, drawn for each. Without it all.'),
  })
  .register(fieldNotes, {
    example: '{ route: [{ destination: { host: web, subset: v2 } }] }',
    refusedFields: {
      mirrors: 'a connection has one shadow: write mirror and mirrorPercentage',
      mirrorPercent: 'it is an older name of Istio: write mirrorPercentage: { value: 10 }',
      mirror_percent: 'it is an older name of Istio: write mirrorPercentage: { value: 10 }',
    },
  });

/**
 * Istio's VirtualService, limited to TCP routes among the subsets of one service. It never changes what is allowed. Source:
 * Istio's reference, Networking / Virtual Service.
 */
export const virtualServiceSchema = z
  .strictObject({
    apiVersion: z.enum([culvertApiVersion, ...istioNetworkingApiVersions]).describe(apiVersionText),
    kind: z.literal('VirtualService').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        hosts: z
          .array(hostField.refine((text) => !isWildcard(text), 'is a wildcard: write a document for each service'))
          .length(1, 'must be one service: write a document for each')
          .describe(
            'The service that the document is for, by its name in the namespace of the document or its whole name.',
          )
          .register(fieldNotes, { example: '[web]' }),
        gateways,
        tcp: z
          .array(tcpRoute)
          .min(1, 'must have at least one route')
          .describe(
            'Routes in order: the first that matches a new connection counts. Where none does it goes as without the document.',
          )
          .register(fieldNotes, { example: '[{ route: [{ destination: { host: web, subset: v2 } }] }]' }),
        exportTo: exportToField,
      })
      .describe(specText)
      .register(fieldNotes, {
        example: '{ hosts: [web], tcp: [{ route: [{ destination: { host: web, subset: v2 } }] }] }',
        refusedFields: {
          http: 'it is about HTTP, and Culvert carries TCP without reading it: write tcp, whose routes are by connection',
          tls: `${notYet}: write tcp, whose routes are by port and client`,
        },
      }),
  })
  .superRefine(({ apiVersion, spec }, context) => {
    if (apiVersion === culvertApiVersion) return;
    for (const [at, route] of spec.tcp.entries()) {
      for (const field of ['retries', 'timeout', 'fault', 'mirror', 'mirrorPercentage'] as const) {
        if (route[field] === undefined) continue;
        const message = `is no field of Istio for TCP: write apiVersion ${culvertApiVersion}`;
        context.addIssue({ code: 'custom', path: ['spec', 'tcp', at, field], message });
      }
    }
  })
  .superRefine(({ apiVersion, spec }, context) => {
    for (const [at, route] of spec.tcp.entries()) {
      if (route.mirrorPercentage === undefined || route.mirror !== undefined || apiVersion !== culvertApiVersion)
        continue;
      const message = 'is the share of mirror, which is missing: write mirror, or leave it out';
      context.addIssue({ code: 'custom', path: ['spec', 'tcp', at, 'mirrorPercentage'], message });
    }
  })
  .superRefine(({ metadata, spec }, context) => {
    const [host = ''] = spec.hosts;
    const service = completeHost(host, metadata.namespace);
    for (const [at, { route }] of spec.tcp.entries()) {
      for (const [index, { destination: to }] of route.entries()) {
        if (completeHost(to.host, metadata.namespace) === service) continue;
        const path = ['spec', 'tcp', at, 'route', index, 'destination', 'host'];
        const message = 'is another service than spec.hosts names, and routes lead to subsets of one service';
        context.addIssue({ code: 'custom', path, message, params: { example: host } });
      }
    }
  })
  .superRefine(({ spec }, context) => {
    for (const [at, { match: matches = [], route }] of spec.tcp.entries()) {
      for (const [index, { destination: to }] of route.entries()) {
        const number = to.port?.number;
        if (number === undefined || (matches.length > 0 && matches.every(({ port }) => port === number))) continue;
        const path = ['spec', 'tcp', at, 'route', index, 'destination', 'port'];
        const message = `is not the one port that the route matches, and connections go to the port of the service that was dialled: write match: [{ port: ${number} }], or leave it out`;
        context.addIssue({ code: 'custom', path, message });
      }
    }
  })
  .describe(
    'VirtualService of Istio, as far as it is about TCP: which subset of a service a connection goes to, by client, port and weight. Of several for a service the first counts: that of the namespace of the client, of that of the service, of the root namespace. It changes nothing that is allowed.',
  );

export type VirtualService = z.output<typeof virtualServiceSchema>;
