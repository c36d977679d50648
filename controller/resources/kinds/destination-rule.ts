import { z } from 'zod';
import { completeHost, meantHost } from '../../../shared/routing/service-hosts.js';
import { connectionPoolField } from './connection-pool.js';
import { fieldNotes } from './field-notes.js';
import { warmupFields } from './warmup.js';
import { outlierDetectionField } from './outlier-detection.js';
import { namespaceField, portField, selectorField } from './field-schemas.js';
import { apiVersionText, culvertApiVersion, kindText, metadataText, namespacedMetadata, specText } from './metadata.js';
import { istioNetworkingApiVersions } from './service-entry.js';

const readsNoHttp = 'it is in HTTP requests, and Culvert carries TCP without reading it: use useSourceIp';
const ownTls = 'the mesh opens its own TLS between agents, with its own certificates';
const notYet = 'this version does not serve it';

const hash = z
  .strictObject({
    useSourceIp: z
      .literal(true)
      .describe("By a hash of the client's address. When an endpoint goes, only its clients get another one."),
  })
  .register(fieldNotes, {
    example: '{ useSourceIp: true }',
    refusedFields: {
      httpHeaderName: readsNoHttp,
      httpCookie: readsNoHttp,
      httpQueryParameterName: readsNoHttp,
      ringHash: 'Culvert hashes client and endpoint together and has no ring: leave it out',
      maglev: 'Culvert hashes client and endpoint together and has no table: leave it out',
      minimumRingSize: 'Culvert hashes client and endpoint together and has no ring: leave it out',
    },
  });

const loadBalancer = z
  .strictObject({
    simple: z
      .enum(['UNSPECIFIED', 'ROUND_ROBIN', 'RANDOM', 'LEAST_REQUEST', 'LEAST_CONN'])
      .exactOptional()
      .describe(
        '`ROUND_ROBIN`: in turns. `RANDOM`: each as likely. `LEAST_REQUEST`, and `LEAST_CONN`, its older name: of the next endpoint in turn and a random other one that to which the thread of the agent has fewer open connections; one that refused within the last ten seconds loses. `UNSPECIFIED`, and without it: as `LEAST_REQUEST`, or by the address of the client where the Service is sticky.',
      )
      .register(fieldNotes, {
        limits: 'this or `consistentHash`, never both',
        refusedValues: {
          PASSTHROUGH: 'goes to the address that was dialled, and at that of a service nothing listens',
        },
      }),
    consistentHash: hash.exactOptional().describe('All connections of a client go to one endpoint.'),
    ...warmupFields,
  })
  .superRefine(({ simple, consistentHash, warmup, warmupDurationSecs }, context) => {
    if (simple !== undefined && consistentHash !== undefined) {
      const message = 'stands next to simple: leave out one of the two';
      context.addIssue({ code: 'custom', path: ['consistentHash'], message });
    }
    if (warmup !== undefined && warmupDurationSecs !== undefined) {
      const message = 'is the older name of warmup.duration, which is there: leave it out';
      context.addIssue({ code: 'custom', path: ['warmupDurationSecs'], message });
    }
    if (consistentHash !== undefined && (warmup ?? warmupDurationSecs) !== undefined) {
      const message = 'has no meaning with consistentHash, by which a client stays with its endpoint: leave it out';
      context.addIssue({ code: 'custom', path: [warmup === undefined ? 'warmupDurationSecs' : 'warmup'], message });
    }
  })
  .register(fieldNotes, {
    example: '{ simple: LEAST_REQUEST }',
    refusedFields: {
      localityLbSetting: `${notYet}: which endpoints are near is trafficDistribution of the Service`,
    },
  });

const tls = z
  .strictObject({
    mode: z
      .enum(['ISTIO_MUTUAL'])
      .exactOptional()
      .describe('`ISTIO_MUTUAL` is what the mesh does anyway.')
      .register(fieldNotes, {
        refusedValues: {
          DISABLE: 'would take encryption away, and members of the mesh always encrypt, as in Istio ambient',
          SIMPLE: `opens TLS on behalf of the client: ${notYet}`,
          MUTUAL: `opens TLS on behalf of the client: ${notYet}`,
        },
      }),
  })
  .register(fieldNotes, {
    example: '{ mode: ISTIO_MUTUAL }',
    refusedFields: {
      clientCertificate: ownTls,
      privateKey: ownTls,
      caCertificates: ownTls,
      caCrl: ownTls,
      credentialName: ownTls,
      subjectAltNames: 'the registry says which identity an endpoint must prove, and agents require it',
      sni: ownTls,
      insecureSkipVerify: 'agents always verify each other',
    },
  });

const refusedPolicies = {
  proxyProtocol: 'applications see the address of the client without it',
  tunnel: 'connections go through the tunnels of the mesh',
};

const retryBudget = z
  .strictObject({
    percent: z
      .number()
      .min(0, 'must be from 0 to 100')
      .max(100, 'must be from 0 to 100')
      .exactOptional()
      .describe('Of the new connections of the last ten seconds, how many may try another endpoint. Without it 20.')
      .register(fieldNotes, { example: '20' }),
    minRetryConcurrency: z
      .int('must be a whole number')
      .min(0, 'must not be negative')
      .max(10_000, 'must be at most 10000')
      .exactOptional()
      .describe('How many may do so at any time, whatever the share. Without it 3.')
      .register(fieldNotes, { example: '3', openApi: { type: 'integer', minimum: 0, maximum: 10_000 } }),
  })
  .register(fieldNotes, { example: '{ percent: 20 }' });

const levels = {
  loadBalancer: loadBalancer.exactOptional().describe('Which endpoint a connection goes to.'),
  connectionPool: connectionPoolField.exactOptional().describe('How many connections there may be, and for how long.'),
  outlierDetection: outlierDetectionField
    .exactOptional()
    .describe(
      'When an endpoint that fails is ejected: left out for a while. `{}` is with the values that are given below.',
    ),
  retryBudget: retryBudget
    .exactOptional()
    .describe(
      'How many connections may try another endpoint, so that retries do not multiply the load of a service that fails.',
    ),
  tls: tls.exactOptional().describe('How the connection is encrypted.'),
};

const portPolicy = z
  .strictObject({
    port: z
      .strictObject({ number: portField.describe('Number of the port.') })
      .describe('Port of the service, as clients dial it.')
      .register(fieldNotes, { example: '{ number: 5432 }', limits: 'each port once' }),
    ...levels,
  })
  .register(fieldNotes, {
    example: '{ port: { number: 5432 }, loadBalancer: { simple: LEAST_REQUEST } }',
    refusedFields: refusedPolicies,
  });

const trafficPolicy = z
  .strictObject({
    ...levels,
    portLevelSettings: z
      .array(portPolicy)
      .superRefine((settings, context) => {
        for (const [index, { port }] of settings.entries()) {
          if (settings.findIndex((other) => other.port.number === port.number) === index) continue;
          context.addIssue({ code: 'custom', path: [index, 'port', 'number'], message: 'is listed twice' });
        }
      })
      .exactOptional()
      .describe('Policies of single ports. One of them replaces the whole policy for its port, as in Istio.')
      .register(fieldNotes, { example: '[{ port: { number: 5432 }, loadBalancer: { simple: RANDOM } }]' }),
  })
  .register(fieldNotes, { example: '{ loadBalancer: { simple: LEAST_REQUEST } }', refusedFields: refusedPolicies });

/** A name of a service: a complete one of another kind is refused with the name that was probably meant. */
export const hostField = z
  .string()
  .superRefine((text, context) => {
    // The namespace does not matter here.
    if (completeHost(text, 'default') !== undefined) return;
    const meant = meantHost(text);
    const message =
      meant === undefined
        ? 'names no service of the mesh'
        : 'is a whole name for Istio, and no service of the mesh has it';
    const params = { example: meant ?? 'web, web.shop.svc.cluster.local or *.shop.svc.cluster.local' };
    context.addIssue({ code: 'custom', message, params });
  })
  .register(fieldNotes, { example: 'web', type: 'host' });

export const subsetNameField = z
  .string()
  .regex(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/, 'must be at most 63 letters, digits, "-", "_" and "."')
  .register(fieldNotes, { example: 'v2', type: 'name' });

const exportName = z
  .string()
  .refine(
    (text) => text === '*' || text === '.' || namespaceField.safeParse(text).success,
    'must be a namespace, "." or "*"',
  )
  .register(fieldNotes, { example: 'billing' });

export const exportToField = z
  .array(exportName)
  .exactOptional()
  .describe(
    'Namespaces whose clients go by the document; `.` is its own and `*` all of them. Without it all of them. Clients of its own namespace always go by it.',
  )
  .register(fieldNotes, { example: '["."]', type: 'list of namespaces, `.` or `*`' });

const subset = z
  .strictObject({
    name: subsetNameField
      .describe('Name of the subset, which routes give.')
      .register(fieldNotes, { limits: 'each name once' }),
    labels: selectorField.describe('Labels that its endpoints have, in addition to those that the service selects by.'),
    trafficPolicy: trafficPolicy
      .exactOptional()
      .describe('What holds for connections to the subset, before what is said of the service.'),
  })
  .register(fieldNotes, { example: '{ name: v2, labels: { version: v2 } }' });

/**
 * Istio's DestinationRule, limited to what is served: how connections to a service are shared among its endpoints. It never
 * changes what is allowed. Source: Istio's reference, Networking / Destination Rule.
 */
export const destinationRuleSchema = z
  .strictObject({
    apiVersion: z.enum([culvertApiVersion, ...istioNetworkingApiVersions]).describe(apiVersionText),
    kind: z.literal('DestinationRule').describe(kindText),
    metadata: namespacedMetadata.describe(metadataText),
    spec: z
      .strictObject({
        host: hostField.describe(
          'The service: its name in the namespace of the document, its whole name (`web.shop.svc.cluster.local`), or a wildcard over whole names (`*.shop.svc.cluster.local`, `*`). The whole name precedes a wildcard, and a longer wildcard a shorter one.',
        ),
        trafficPolicy: trafficPolicy.exactOptional().describe('What holds for connections to the service.'),
        subsets: z
          .array(subset)
          .superRefine((subsets, context) => {
            for (const [index, { name }] of subsets.entries()) {
              if (subsets.findIndex((other) => other.name === name) === index) continue;
              context.addIssue({ code: 'custom', path: [index, 'name'], message: 'is listed twice' });
            }
          })
          .exactOptional()
          .describe('Parts of the endpoints, by labels, that routes of a VirtualService lead to.')
          .register(fieldNotes, { example: '[{ name: v2, labels: { version: v2 } }]' }),
        exportTo: exportToField,
      })
      .describe(specText)
      .register(fieldNotes, {
        example: '{ host: web, trafficPolicy: { loadBalancer: { simple: LEAST_REQUEST } } }',
        refusedFields: {
          workloadSelector: `${notYet}: a document is for all clients of the namespaces in exportTo`,
        },
      }),
  })
  .superRefine(({ apiVersion, spec }, context) => {
    if (apiVersion === culvertApiVersion) return;
    for (const { path, policy } of policiesOf(spec)) {
      if (policy.connectionPool?.tcp?.maxPendingConnections === undefined) continue;
      const message = `is no field of Istio: write apiVersion ${culvertApiVersion}`;
      context.addIssue({ code: 'custom', path: [...path, 'connectionPool', 'tcp', 'maxPendingConnections'], message });
    }
  })
  .describe(
    'DestinationRule of Istio, as far as it is about TCP: how connections to a service are shared among its endpoints, and how many there may be. Of several the first counts: that of the namespace of the client, of that of the service, of the root namespace. It changes nothing that is allowed.',
  );

type Policy = z.output<typeof trafficPolicy>;
type PolicyAt = { readonly path: readonly PropertyKey[]; readonly policy: Omit<Policy, 'portLevelSettings'> };

/** All levels of a document that have a policy. */
function* policiesOf(spec: { trafficPolicy?: Policy; subsets?: z.output<typeof subset>[] }): Generator<PolicyAt> {
  const wholes = [
    { path: ['spec', 'trafficPolicy'], policy: spec.trafficPolicy },
    ...(spec.subsets ?? []).map((each, index) => ({
      path: ['spec', 'subsets', index, 'trafficPolicy'],
      policy: each.trafficPolicy,
    })),
  ];
  for (const { path, policy } of wholes) {
    if (policy === undefined) continue;
    yield { path, policy };
    for (const [index, each] of (policy.portLevelSettings ?? []).entries()) {
      yield { path: [...path, 'portLevelSettings', index], policy: each };
    }
  }
}

export type DestinationRule = z.output<typeof destinationRuleSchema>;
