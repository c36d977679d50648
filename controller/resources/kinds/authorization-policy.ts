import { z } from 'zod';
import { authorizationConditionSchema } from './authorization-condition.js';
import { fieldNotes } from './field-notes.js';
import { isNamespacedName, isPort, labelsField, networkField } from './field-schemas.js';
import {
  annotationsField,
  apiVersionText,
  culvertApiVersion,
  kindText,
  metadataText,
  namespacedMetadata,
  specText,
} from './metadata.js';

export const istioSecurityApiVersions = ['security.istio.io/v1', 'security.istio.io/v1beta1'] as const;

/** `selector` of both of Istio's security kinds. */
export const istioWorkloadSelector = z.strictObject({
  matchLabels: labelsField.exactOptional().describe('Labels that the workloads have. Without any: all workloads.'),
});

const emptyList = 'must not be empty: leave it out';
const httpOnly = 'needs HTTP, and Culvert carries TCP without reading it';

/** Names and principals: exact, `*`, `prefix*` or `*suffix`. */
function matchList(example: string) {
  return z
    .array(z.string().min(1, 'must not be empty').max(512))
    .min(1, emptyList)
    .exactOptional()
    .register(fieldNotes, { example });
}

const principal = z
  .string()
  .min(1, 'must not be empty')
  .max(512)
  .refine((text) => !text.startsWith('spiffe://'), 'is written without "spiffe://", as in Istio')
  .register(fieldNotes, { example: 'cluster.local/ns/billing/sa/api', type: 'principal' });
const principals = z.array(principal).min(1, emptyList).exactOptional();

const ipBlocks = z.array(networkField).min(1, emptyList).exactOptional();

/** Istio writes ports as strings; numbers are accepted too. */
const portText = z
  .union([z.number(), z.string()], { error: 'must be a port from 1 to 65535' })
  .refine((value) => parsePortText(value) !== undefined, 'must be a port from 1 to 65535')
  .register(fieldNotes, { example: '"5432"', type: 'port' });
const ports = z.array(portText).min(1, emptyList).exactOptional();

export function parsePortText(value: number | string): number | undefined {
  const port = /^[1-9]\d{0,4}$/.test(String(value)) ? Number(value) : 0;
  return isPort(port) ? port : undefined;
}

/** `namespace/name`, or `name` in the policy's own namespace; no wildcards. */
const account = z
  .string()
  .max(320)
  .refine((text) => isNamespacedName(text.includes('/') ? text : `x/${text}`), 'must be NAMESPACE/NAME or NAME')
  .register(fieldNotes, { example: 'billing/api', type: 'account' });
const accounts = z
  .array(account)
  .min(1, emptyList)
  .max(16, 'must not have more than 16 entries')
  .exactOptional()
  .register(fieldNotes, { limits: 'at most 16; not together with principals or namespaces' });

const source = z
  .strictObject({
    principals: principals.describe(
      'Identities, as `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`; `*`, `prefix*` and `*suffix` too.',
    ),
    notPrincipals: principals.describe('Identities that do not match.'),
    serviceAccounts: accounts.describe('Accounts, as `NAMESPACE/NAME`, or `NAME` in the namespace of the policy.'),
    notServiceAccounts: accounts.describe('Accounts that do not match.'),
    namespaces: matchList('["billing"]').describe('Namespaces of the source; `*`, `prefix*` and `*suffix` too.'),
    notNamespaces: matchList('["billing"]').describe('Namespaces that do not match.'),
    trustDomains: matchList('["cluster.local"]').describe(
      'Trust domains in the identity of the source; `*`, `prefix*` and `*suffix` too. `cluster.local` is that of the mesh.',
    ),
    notTrustDomains: matchList('["cluster.local"]').describe('Trust domains that do not match.'),
    ipBlocks: ipBlocks.describe('Addresses of the source.'),
    notIpBlocks: ipBlocks.describe('Addresses that do not match.'),
  })
  .refine((fields) => Object.keys(fields).length > 0, 'must have at least one field; `rules: [{}]` matches everything')
  .superRefine((fields, context) => {
    const { serviceAccounts, notServiceAccounts, principals, notPrincipals, namespaces, notNamespaces } = fields;
    if (serviceAccounts === undefined && notServiceAccounts === undefined) return;
    if ([principals, notPrincipals, namespaces, notNamespaces].every((field) => field === undefined)) return;
    const path = [serviceAccounts === undefined ? 'notServiceAccounts' : 'serviceAccounts'];
    const message = 'cannot stand next to principals or namespaces: an account says both';
    context.addIssue({ code: 'custom', path, message });
  })
  .register(fieldNotes, {
    openApi: { minProperties: 1 },
    example: '{ principals: ["cluster.local/ns/billing/sa/api"] }',
    refusedFields: {
      requestPrincipals: `a request principal comes from a JWT in an HTTP request: it ${httpOnly}`,
      notRequestPrincipals: `a request principal comes from a JWT in an HTTP request: it ${httpOnly}`,
      remoteIpBlocks: `the remote address comes from X-Forwarded-For: it ${httpOnly}. Use ipBlocks`,
      notRemoteIpBlocks: `the remote address comes from X-Forwarded-For: it ${httpOnly}. Use notIpBlocks`,
    },
  });

const operation = z
  .strictObject({
    ports: ports.describe('Ports of the workload.'),
    notPorts: ports.describe('Ports that do not match.'),
  })
  .refine((fields) => Object.keys(fields).length > 0, 'must have at least one field; `rules: [{}]` matches everything')
  .register(fieldNotes, {
    openApi: { minProperties: 1 },
    example: '{ ports: ["5432"] }',
    refusedFields: {
      methods: `matching a method ${httpOnly}`,
      notMethods: `matching a method ${httpOnly}`,
      paths: `matching a path ${httpOnly}`,
      notPaths: `matching a path ${httpOnly}`,
      hosts: `matching a host ${httpOnly}`,
      notHosts: `matching a host ${httpOnly}`,
    },
  });

/** Go's words for a boolean, which Istio accepts in the annotation. */
const booleans: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'true', 'True', 'TRUE'].map((word) => [word, true] as const),
  ...['0', 'f', 'F', 'false', 'False', 'FALSE'].map((word) => [word, false] as const),
]);

/** Istio's annotation for a policy that is tried and not enforced. */
export const dryRunAnnotation = 'istio.io/dry-run';

/** Whether the annotations ask for a dry run; undefined: the value is no boolean. */
export function asksForDryRun(annotations: Readonly<Record<string, string>> | undefined): boolean | undefined {
  const value = annotations?.[dryRunAnnotation];
  return value === undefined ? false : booleans.get(value);
}

const metadata = namespacedMetadata
  .extend({
    annotations: annotationsField
      .exactOptional()
      .describe(
        `Notes for people and tools. \`${dryRunAnnotation}: "true"\` has the policy audited and not enforced, as in Istio; Culvert gives the others no meaning.`,
      ),
  })
  .superRefine(({ annotations }, context) => {
    if (asksForDryRun(annotations) !== undefined) return;
    const message = 'must be "true" or "false"';
    context.addIssue({ code: 'custom', path: ['annotations', dryRunAnnotation], message });
  });

const rule = z
  .strictObject({
    from: z
      .array(z.strictObject({ source: source.describe('A source. All fields that are written must match.') }))
      .min(1, emptyList)
      .exactOptional()
      .describe('Sources, as alternatives. Without it every source.'),
    to: z
      .array(
        z.strictObject({ operation: operation.describe('What is dialled. All fields that are written must match.') }),
      )
      .min(1, emptyList)
      .exactOptional()
      .describe('Ports, as alternatives. Without it every port.'),
    when: z
      .array(authorizationConditionSchema)
      .min(1, emptyList)
      .exactOptional()
      .describe('Further conditions, which must all hold.'),
  })
  .register(fieldNotes, { example: '{ from: [{ source: { namespaces: ["billing"] } }] }' });

/**
 * Istio's AuthorizationPolicy, limited to what applies to TCP, with Istio's semantics. `action` defaults to ALLOW. An
 * ALLOW policy without rules allows nothing, a DENY policy without rules denies nothing, and `rules: [{}]` matches
 * every connection. Source: Istio's reference, Security / Authorization Policy.
 */
export const authorizationPolicySchema = z
  .strictObject({
    apiVersion: z.enum([culvertApiVersion, ...istioSecurityApiVersions]).describe(apiVersionText),
    kind: z.literal('AuthorizationPolicy').describe(kindText),
    metadata: metadata.describe(metadataText),
    spec: z
      .strictObject({
        selector: istioWorkloadSelector
          .exactOptional()
          .describe(
            'Workloads that the policy is for, of its namespace or, in the root namespace, of all. Without it all of them.',
          ),
        action: z
          .enum(['ALLOW', 'DENY'])
          .default('ALLOW')
          .describe(
            '`DENY` policies are asked first. A workload with `ALLOW` policies refuses what none of them allows.',
          )
          .register(fieldNotes, {
            refusedValues: {
              AUDIT: `is not supported for AuthorizationPolicies: use a SegmentationRule with mode audit, or ${dryRunAnnotation}`,
              CUSTOM: `hands the decision to an external authorizer, which ${httpOnly}`,
            },
          }),
        rules: z
          .array(rule)
          .exactOptional()
          .describe('What the policy matches, as alternatives. Without it nothing; `[{}]` is every connection.'),
      })
      .describe(specText)
      .prefault({})
      .register(fieldNotes, {
        example: '{ action: DENY, rules: [{ to: [{ operation: { ports: ["22"] } }] }] }',
        refusedFields: {
          targetRef: 'it attaches a policy to a gateway or waypoint, and there is none: use selector',
          targetRefs: 'it attaches a policy to a gateway or waypoint, and there is none: use selector',
          provider: 'it belongs to the action CUSTOM, which is not supported',
        },
      }),
  })
  .describe(
    'AuthorizationPolicy of Istio, as far as it concerns TCP, with the same meaning. A field that only makes sense for HTTP is refused.',
  );

export type AuthorizationPolicy = z.output<typeof authorizationPolicySchema>;
