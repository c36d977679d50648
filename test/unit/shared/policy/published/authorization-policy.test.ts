import { describe, it } from 'node:test';
import { formatSpiffeId } from '../../../../../shared/identity.js';
import type { Party } from '../../../../../shared/policy/connection.js';
import { meshed, web } from '../../../../support/rules/policy-fixture.js';
import { istio } from '../../../../support/rules/policy-published-fixture.js';
import { checkPublished, type PublishedText } from '../../../../support/rules/published-rows.js';

/**
 * The text of Istio's API for AuthorizationPolicy (security/v1beta1, authorization_policy.proto), sentence by sentence in
 * our words, in its order. `Rule`, `Source`, `Operation` and `Condition` are its messages.
 */

const root = 'istio-system';
const policy = (spec: object, namespace = 'billing', name = 'p') => istio('AuthorizationPolicy', name, namespace, spec);
const allow = (...rules: readonly object[]) => policy({ action: 'ALLOW', rules }, 'billing', 'allow');
const deny = (...rules: readonly object[]) => policy({ action: 'DENY', rules }, 'billing', 'deny');
const source = (fields: object) => ({ from: [{ source: fields }] });
const operation = (fields: object) => ({ to: [{ operation: fields }] });
const when = (key: string, fields: object) => ({ when: [{ key, ...fields }] });
const select = (app: string) => ({ selector: { matchLabels: { app } } });
const fromShop = source({ namespaces: ['shop'] });
const elsewhere = { destination: meshed('shop/db', '198.18.1.2') };
const foreign: Party = {
  ...web,
  workload: null,
  identity: formatSpiffeId({ trustDomain: 'other.test', namespace: 'billing', serviceAccount: 'api' }),
};
const tried = (spec: object, value: string) => {
  const metadata = { name: 'p', namespace: 'billing', annotations: { 'istio.io/dry-run': value } };
  return { ...policy(spec), metadata };
};
const http = /needs HTTP, and Culvert carries TCP without reading it/;

const text: PublishedText = {
  introduction: [
    { says: 'policies control the access to workloads', given: [deny({})], verdicts: 'ddd' },
    {
      says: 'CUSTOM comes first, where something else than Istio decides',
      given: [policy({ action: 'CUSTOM', rules: [{}] })],
      refused: /"CUSTOM" hands the decision to an external authorizer/,
    },
    { says: 'a DENY policy that matches denies', given: [allow({}), deny(fromShop)], verdicts: 'ada' },
    {
      says: 'without an ALLOW policy for the workload everything else is allowed',
      given: [deny(fromShop)],
      verdicts: 'ada',
    },
    { says: 'an ALLOW policy that matches allows', given: [allow(fromShop)], verdicts: 'dad' },
    { says: 'what is left is denied', given: [allow()], verdicts: 'ddd' },
    {
      says: 'AUDIT policies ask for log lines and decide nothing',
      given: [policy({ action: 'AUDIT', rules: [{}] })],
      refused: /"AUDIT" is not supported for AuthorizationPolicies: use a SegmentationRule with mode audit/,
    },
    { says: 'an audit needs a plugin that does it', nothing: 'AUDIT is refused, so nothing waits for a plugin' },
  ],
  examples: [
    { says: 'the action is ALLOW when none is written', given: [policy({ rules: [fromShop] })], verdicts: 'dad' },
    {
      says: 'requests of a service account or of a namespace are allowed, all others denied',
      given: [
        policy({
          rules: [
            {
              from: [
                { source: { principals: ['cluster.local/ns/billing/sa/api'] } },
                { source: { namespaces: ['shop'] } },
              ],
            },
          ],
        }),
      ],
      verdicts: 'aad',
    },
    {
      says: 'methods and paths narrow it further',
      given: [policy({ rules: [operation({ methods: ['GET'], paths: ['/info*'] })] })],
      refused: http,
    },
    {
      says: 'a condition on a JWT narrows it further',
      given: [policy({ rules: [when('request.auth.claims[iss]', { values: ['x'] })] })],
      refused: http,
    },
    {
      says: 'DENY with a method denies what comes from one namespace',
      given: [deny({ ...fromShop, ...operation({ methods: ['POST'] }) })],
      refused: http,
    },
    {
      says: 'on a TCP port a field of HTTP counts as matched by DENY, so a rule had better name the port alone',
      given: [deny(operation({ ports: ['5432'] }))],
      verdicts: 'ddd',
    },
    { says: 'DENY of one port leaves the others', given: [deny(operation({ ports: ['8080'] }))], verdicts: 'aaa' },
    {
      says: 'a policy in one namespace is about that',
      given: [policy({}), policy({}, 'x')],
      verdicts: 'aaa',
      to: elsewhere,
    },
    { says: 'in the root namespace a policy is about all', given: [policy({}, root)], verdicts: 'ddd', to: elsewhere },
    { says: 'a selector narrows it further', given: [policy({ ...select('x') })], verdicts: 'aaa' },
    { says: 'an empty spec allows nothing in its namespace', given: [policy({})], verdicts: 'ddd' },
    { says: 'a rule without fields allows everything', given: [policy({ rules: [{}] })], verdicts: 'aaa' },
    { says: 'a selector alone allows nothing to what it selects', given: [policy(select('db'))], verdicts: 'ddd' },
    {
      says: 'in the root namespace a selector selects in all namespaces',
      given: [policy(select('db'), root)],
      verdicts: 'ddd',
      to: elsewhere,
    },
  ],
  'dry run': [
    {
      says: 'the annotation tries a policy without enforcing it',
      given: [tried({ action: 'DENY', rules: [{}] }, 'true')],
      verdicts: 'aaa',
      audited: ['AuthorizationPolicy/billing/p'],
    },
    {
      says: 'the effect of an ALLOW policy shows before it is enforced',
      given: [tried({ rules: [fromShop] }, 'true')],
      verdicts: 'aaa',
      audited: ['AuthorizationPolicy/billing/p'],
    },
    { says: 'false enforces it', given: [tried({ action: 'DENY', rules: [{}] }, 'false')], verdicts: 'ddd' },
    { says: 'the value is a boolean', given: [tried({}, 'maybe')], refused: /must be "true" or "false"/ },
  ],
  selector: [
    { says: 'it decides to which workloads the policy applies', given: [policy(select('x'))], verdicts: 'aaa' },
    {
      says: 'it selects in the namespace of the policy',
      given: [policy(select('db'))],
      verdicts: 'aaa',
      to: elsewhere,
    },
    {
      says: 'in the root namespace it also selects in all others',
      given: [policy(select('db'), root)],
      verdicts: 'ddd',
    },
    { says: 'without it all workloads are selected', given: [policy({})], verdicts: 'ddd' },
    {
      says: 'all of its labels must be there',
      given: [policy({ selector: { matchLabels: { app: 'db', x: 'y' } } })],
      verdicts: 'aaa',
    },
    {
      says: 'it and targetRefs exclude each other',
      given: [policy({ ...select('db'), targetRefs: [{ kind: 'Gateway', name: 'x' }] })],
      refused: /targetRefs: is not supported \(it attaches a policy to a gateway or waypoint/,
    },
  ],
  targetRefs: [
    {
      says: 'they name gateways and services that the policy is attached to',
      given: [policy({ targetRefs: [{ kind: 'Service', name: 'x' }] })],
      refused: /there is none: use selector/,
    },
    { says: 'without them the selector counts', given: [policy(select('db'))], verdicts: 'ddd' },
    { says: 'policies with them need proxies of some version', nothing: 'they are refused' },
    { says: 'waypoints ignore selectors', nothing: 'there are no waypoints' },
  ],
  rules: [
    {
      says: 'one rule that matches is enough',
      given: [allow(source({ namespaces: ['x'] }), fromShop)],
      verdicts: 'dad',
    },
    {
      says: 'without rules nothing matches: DENY denies nothing',
      given: [policy({ action: 'DENY' })],
      verdicts: 'aaa',
    },
    { says: 'without rules nothing matches: ALLOW denies all', given: [policy({ action: 'ALLOW' })], verdicts: 'ddd' },
  ],
  action: [
    { says: 'ALLOW allows only what matches', given: [allow(fromShop)], verdicts: 'dad' },
    { says: 'DENY denies what matches', given: [deny(fromShop)], verdicts: 'ada' },
    { says: 'ALLOW is the default', given: [policy({ rules: [fromShop] })], verdicts: 'dad' },
    {
      says: 'a provider belongs to CUSTOM',
      given: [policy({ provider: { name: 'x' } })],
      refused: /provider: is not supported \(it belongs to the action CUSTOM/,
    },
  ],
  Rule: [
    {
      says: 'a source, an operation and all conditions must match',
      given: [
        allow({ ...fromShop, ...operation({ ports: ['5432'] }), ...when('source.ip', { values: ['198.18.1.1'] }) }),
      ],
      verdicts: 'dad',
    },
    {
      says: 'one condition that fails is enough to miss',
      given: [
        allow({
          ...fromShop,
          when: [
            { key: 'source.ip', values: ['198.18.1.1'] },
            { key: 'destination.port', values: ['80'] },
          ],
        }),
      ],
      verdicts: 'ddd',
    },
    { says: 'an empty rule always matches', given: [deny({})], verdicts: 'ddd' },
    { says: 'a text matches exactly', given: [allow(source({ namespaces: ['sho', 'shopp'] }))], verdicts: 'ddd' },
    { says: 'a star at the end matches a beginning', given: [allow(source({ namespaces: ['sh*'] }))], verdicts: 'dad' },
    { says: 'and the beginning itself', given: [allow(source({ namespaces: ['shop*'] }))], verdicts: 'dad' },
    {
      says: 'a star at the beginning matches an end',
      given: [allow(source({ namespaces: ['*op'] }))],
      verdicts: 'dad',
    },
    { says: 'a star alone matches what is not empty', given: [allow(source({ namespaces: ['*'] }))], verdicts: 'aad' },
    { says: 'without from any source', given: [allow(operation({ ports: ['5432'] }))], verdicts: 'aaa' },
    { says: 'without to any operation', given: [allow(fromShop)], verdicts: 'dad', to: { port: 1 } },
    { says: 'without when any condition', given: [allow(fromShop)], verdicts: 'dad' },
    {
      says: 'from has at least one source',
      given: [allow({ from: [] })],
      refused: /from: must not be empty: leave it out/,
    },
    {
      says: 'to has at least one operation',
      given: [allow({ to: [] })],
      refused: /to: must not be empty: leave it out/,
    },
  ],
  Source: [
    {
      says: 'all fields must match',
      given: [allow(source({ namespaces: ['shop'], notIpBlocks: ['198.18.1.1'] }))],
      verdicts: 'ddd',
    },
    {
      says: 'the values of a field are alternatives',
      given: [allow(source({ namespaces: ['prod', 'shop', 'billing'], notIpBlocks: ['203.0.113.4'] }))],
      verdicts: 'aad',
    },
    {
      says: 'the example names principals that no certificate has',
      given: [allow(source({ principals: ['admin', 'dev'] }))],
      warned: /warning .*"admin" matches nothing: a principal is TRUST-DOMAIN\/ns\/NAMESPACE\/sa\/ACCOUNT/,
    },
    {
      says: 'principals: trust domain, namespace and account of the certificate',
      given: [allow(source({ principals: ['mesh.test/ns/shop/sa/web'] }))],
      verdicts: 'dad',
    },
    { says: 'principals need mTLS', given: [allow(source({ principals: ['*'] }))], verdicts: 'aad' },
    {
      says: 'principals are the attribute source.principal',
      given: [allow(when('source.principal', { values: ['mesh.test/ns/shop/sa/web'] }))],
      verdicts: 'dad',
    },
    {
      says: 'serviceAccounts offer the same',
      given: [allow(source({ serviceAccounts: ['shop/web'] }))],
      verdicts: 'dad',
    },
    { says: 'without principals any', given: [allow(source({ ipBlocks: ['0.0.0.0/0'] }))], verdicts: 'aaa' },
    {
      says: 'notPrincipals must not match',
      given: [deny(source({ notPrincipals: ['mesh.test/ns/shop/sa/web'] }))],
      verdicts: 'dad',
    },
    ...['requestPrincipals', 'notRequestPrincipals'].map((field) => ({
      says: `${field} come from a JWT`,
      given: [allow(source({ [field]: ['x/y'] }))],
      refused: http,
    })),
    {
      says: 'namespaces come from the certificate',
      given: [allow(fromShop)],
      verdicts: 'aaa',
      to: {
        source: {
          ...foreign,
          identity: formatSpiffeId({ trustDomain: 'other.test', namespace: 'shop', serviceAccount: 'x' }),
        },
      },
    },
    { says: 'namespaces need mTLS', given: [allow(source({ namespaces: ['*'] }))], verdicts: 'aad' },
    {
      says: 'namespaces are the attribute source.namespace',
      given: [allow(when('source.namespace', { values: ['shop'] }))],
      verdicts: 'dad',
    },
    { says: 'notNamespaces must not match', given: [allow(source({ notNamespaces: ['shop'] }))], verdicts: 'ada' },
    {
      says: 'serviceAccounts come from the certificate and need mTLS',
      given: [allow(source({ serviceAccounts: ['shop/web', 'billing/api'] }))],
      verdicts: 'aad',
    },
    {
      says: 'serviceAccounts are the attribute source.serviceAccount',
      given: [allow(when('source.serviceAccount', { values: ['shop/web'] }))],
      verdicts: 'dad',
    },
    {
      says: 'an account without a namespace is of that of the policy',
      given: [allow(source({ serviceAccounts: ['api'] }))],
      verdicts: 'add',
    },
    {
      says: 'serviceAccounts have no wildcards',
      given: [allow(source({ serviceAccounts: ['shop/*'] }))],
      refused: /must be NAMESPACE\/NAME or NAME/,
    },
    ...['principals', 'namespaces', 'notPrincipals', 'notNamespaces'].map((field) => ({
      says: `serviceAccounts and ${field} exclude each other`,
      given: [allow(source({ serviceAccounts: ['a/b'], [field]: ['x'] }))],
      refused: /cannot stand next to principals or namespaces/,
    })),
    {
      says: 'there are at most 16 accounts',
      given: [allow(source({ serviceAccounts: Array.from({ length: 17 }, (_, n) => `a/b${n}`) }))],
      refused: /must not have more than 16/,
    },
    {
      says: 'notServiceAccounts must not match',
      given: [allow(source({ notServiceAccounts: ['shop/web'] }))],
      verdicts: 'ada',
    },
    {
      says: 'notServiceAccounts have no wildcards',
      given: [allow(source({ notServiceAccounts: ['*'] }))],
      refused: /must be NAMESPACE\/NAME or NAME/,
    },
    {
      says: 'ipBlocks: the source address, as a single one',
      given: [allow(source({ ipBlocks: ['203.0.113.9'] }))],
      verdicts: 'dda',
    },
    {
      says: 'ipBlocks: the source address, as a network',
      given: [allow(source({ ipBlocks: ['203.0.113.0/24'] }))],
      verdicts: 'dda',
    },
    {
      says: 'ipBlocks are the attribute source.ip',
      given: [allow(when('source.ip', { values: ['203.0.113.0/24'] }))],
      verdicts: 'dda',
    },
    {
      says: 'notIpBlocks must not match',
      given: [allow(source({ notIpBlocks: ['203.0.113.0/24'] }))],
      verdicts: 'aad',
    },
    ...['remoteIpBlocks', 'notRemoteIpBlocks'].map((field) => ({
      says: `${field} come from a header`,
      given: [allow(source({ [field]: ['10.0.0.0/8'] }))],
      refused: /comes from X-Forwarded-For.*Use (?:ipBlocks|notIpBlocks)/,
    })),
    {
      says: 'trustDomains come from the certificate and need mTLS',
      given: [allow(source({ trustDomains: ['mesh.test'] }))],
      verdicts: 'aad',
    },
    { says: 'trustDomains may be a beginning', given: [allow(source({ trustDomains: ['mesh.*'] }))], verdicts: 'aad' },
    { says: 'trustDomains may be an end', given: [allow(source({ trustDomains: ['*.test'] }))], verdicts: 'aad' },
    { says: 'trustDomains may be any', given: [allow(source({ trustDomains: ['*'] }))], verdicts: 'aad' },
    {
      says: 'trustDomains are the attribute source.trustDomain',
      given: [allow(when('source.trustDomain', { values: ['other.test'] }))],
      verdicts: 'aaa',
      to: { source: foreign },
    },
    {
      says: 'notTrustDomains must not match',
      given: [allow(source({ notTrustDomains: ['mesh.test'] }))],
      verdicts: 'aaa',
      to: { source: foreign },
    },
  ],
  Operation: [
    {
      says: 'all fields must match',
      given: [allow(operation({ ports: ['5432'], notPorts: ['5432'] }))],
      verdicts: 'ddd',
    },
    {
      says: 'ports: the port of the connection',
      given: [allow(operation({ ports: ['80', '5432'] }))],
      verdicts: 'aaa',
    },
    { says: 'without ports any', given: [allow(operation({ notPorts: ['80'] }))], verdicts: 'aaa' },
    { says: 'notPorts must not match', given: [deny(operation({ notPorts: ['5432'] }))], verdicts: 'aaa' },
    ...['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'].map((field) => ({
      says: `${field} belong to HTTP`,
      given: [allow(operation({ [field]: ['x'] }))],
      refused: http,
    })),
  ],
  Condition: [
    {
      says: 'the key is an attribute',
      given: [allow(when('source.something', { values: ['x'] }))],
      refused: /is no condition: the keys are source\.ip/,
    },
    {
      says: 'one of the values must match',
      given: [allow(when('source.ip', { values: ['203.0.113.9', '198.18.1.1'] }))],
      verdicts: 'daa',
    },
    {
      says: 'none of notValues may match',
      given: [allow(when('source.ip', { notValues: ['203.0.113.9'] }))],
      verdicts: 'aad',
    },
    {
      says: 'one of the two lists must be there',
      given: [allow(when('source.ip', {}))],
      refused: /must have values or notValues/,
    },
  ],
};

for (const [part, sentences] of Object.entries(text)) {
  describe(`AuthorizationPolicy, ${part}`, () => {
    for (const sentence of sentences) it(sentence.says, () => checkPublished(sentence));
  });
}
