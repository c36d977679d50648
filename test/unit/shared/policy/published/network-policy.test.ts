import { describe, it } from 'node:test';
import { db, meshed } from '../../../../support/rules/policy-fixture.js';
import { namespaceOf, networkPolicy } from '../../../../support/rules/policy-published-fixture.js';
import { checkPublished, type PublishedText } from '../../../../support/rules/published-rows.js';

/**
 * The text of Kubernetes' API for NetworkPolicy (networking.k8s.io/v1), sentence by sentence in our words, in its order,
 * and after it what the page "Network Policies" adds. Labels of the namespace shop: team=sales.
 */

const shop = namespaceOf('shop', { team: 'sales' });
const policy = (spec: object, name = 'p', namespace = 'billing') => networkPolicy(name, namespace, spec);
const pods = (app: string) => ({ podSelector: { matchLabels: { app } } });
const team = { namespaceSelector: { matchLabels: { team: 'sales' } } };
const from = (...peers: readonly object[]) => policy({ ingress: [{ from: peers }] });
const to = (...peers: readonly object[]) => policy({ policyTypes: ['Egress'], egress: [{ to: peers }] });
const ingressPorts = (...ports: readonly object[]) => policy({ ingress: [{ ports }] });
const other = meshed('shop/db', '198.18.1.2');
const everything = { ingress: [{}], egress: [{}] };

const text: PublishedText = {
  NetworkPolicy: [
    { says: 'a policy says what traffic pods take', given: [from(pods('api'))], verdicts: 'add' },
    { says: 'spec may be missing', given: [{ ...policy({}), spec: undefined }], verdicts: 'ddd' },
    { says: 'there is no status', given: [{ ...policy({}), status: {} }], verdicts: 'ddd' },
  ],
  podSelector: [
    { says: 'it selects the pods', given: [policy(pods('db'))], verdicts: 'ddd' },
    { says: 'it leaves the others', given: [policy(pods('x'))], verdicts: 'aaa' },
    { says: 'empty, it selects all of the namespace', given: [policy({ podSelector: {} })], verdicts: 'ddd' },
    {
      says: 'it selects in its own namespace only',
      given: [policy({ podSelector: {} }, 'p', 'shop')],
      verdicts: 'aaa',
    },
    {
      says: 'the rules of several policies add up',
      given: [from(pods('api')), policy({ ingress: [{ from: [{ namespaceSelector: {} }] }] }, 'q')],
      verdicts: 'aad',
    },
    { says: 'missing, it is empty', given: [policy({})], verdicts: 'ddd' },
  ],
  ingress: [
    { says: 'without a policy traffic is allowed', given: [], verdicts: 'aaa' },
    {
      says: 'the node of a pod reaches it',
      nothing: 'a node is no workload; what it dials passes no rule of a workload',
    },
    { says: 'one rule of one policy is enough', given: [policy({}), policy({ ingress: [{}] }, 'q')], verdicts: 'aaa' },
    { says: 'empty, it allows nothing', given: [policy({ ingress: [] })], verdicts: 'ddd' },
    { says: 'missing, it allows nothing', given: [policy({})], verdicts: 'ddd' },
  ],
  egress: [
    { says: 'without a policy traffic is allowed', given: [policy({}, 'p', 'shop')], verdicts: 'aaa' },
    {
      says: 'one rule of one policy is enough',
      given: [policy({ policyTypes: ['Egress'] }), policy({ egress: [{}], ingress: [{}] }, 'q')],
      verdicts: 'aaa',
    },
    { says: 'empty, it allows nothing', given: [policy({ policyTypes: ['Egress'], egress: [] })], verdicts: 'daa' },
  ],
  policyTypes: [
    { says: 'Ingress alone', given: [policy({ policyTypes: ['Ingress'] })], verdicts: 'ddd' },
    { says: 'Egress alone', given: [policy({ policyTypes: ['Egress'] })], verdicts: 'daa' },
    { says: 'both', given: [policy({ policyTypes: ['Ingress', 'Egress'], ingress: [{}] })], verdicts: 'daa' },
    {
      says: 'nothing else',
      given: [policy({ policyTypes: ['Both'] })],
      refused: /policyTypes\[0\]: must not be "Both"/,
    },
    {
      says: 'missing, egress rules add Egress',
      given: [policy({ ingress: [{}], egress: [{ to: [pods('x')] }] })],
      verdicts: 'daa',
    },
    { says: 'missing, Ingress is always meant', given: [policy({ egress: [{}] })], verdicts: 'ddd' },
    { says: 'empty, it is as if missing: Ingress', given: [policy({ policyTypes: [] })], verdicts: 'ddd' },
    {
      says: 'empty, it is as if missing: Egress',
      given: [policy({ policyTypes: [], ingress: [{}], egress: [{ to: [pods('x')] }] })],
      verdicts: 'daa',
    },
    {
      says: 'an egress-only policy has to say so',
      given: [policy({ policyTypes: ['Egress'], egress: [{}] })],
      verdicts: 'aaa',
    },
    { says: 'no egress at all has to be said', given: [policy({ egress: [], ingress: [{}] })], verdicts: 'aaa' },
  ],
  'rules of ingress': [
    {
      says: 'ports and from must both match',
      given: [policy({ ingress: [{ from: [pods('api')], ports: [{ port: 80 }] }] })],
      verdicts: 'ddd',
    },
    { says: 'the ports are alternatives', given: [ingressPorts({ port: 80 }, { port: 5432 })], verdicts: 'aaa' },
    { says: 'without ports all', given: [from(pods('api'))], verdicts: 'add' },
    { says: 'empty ports are all', given: [ingressPorts()], verdicts: 'aaa' },
    { says: 'a port that is not listed is not allowed', given: [ingressPorts({ port: 80 })], verdicts: 'ddd' },
    { says: 'the sources are alternatives', given: [shop, from(pods('api'), team)], verdicts: 'aad' },
    { says: 'without from all', given: [ingressPorts({ port: 5432 })], verdicts: 'aaa' },
    { says: 'an empty from is all', given: [from()], verdicts: 'aaa' },
    { says: 'a source that is not listed is not allowed', given: [from(pods('x'))], verdicts: 'ddd' },
  ],
  'rules of egress': [
    {
      says: 'ports and to must both match',
      given: [policy({ policyTypes: ['Egress'], egress: [{ to: [pods('db')], ports: [{ port: 80 }] }] })],
      verdicts: 'daa',
    },
    {
      says: 'the ports are alternatives',
      given: [policy({ policyTypes: ['Egress'], egress: [{ ports: [{ port: 80 }, { port: 5432 }] }] })],
      verdicts: 'aaa',
    },
    { says: 'without ports all', given: [to(pods('db'))], verdicts: 'aaa' },
    { says: 'the destinations are alternatives', given: [to(pods('x'), pods('db'))], verdicts: 'aaa' },
    { says: 'an empty to is all', given: [to()], verdicts: 'aaa' },
    { says: 'a destination that is not listed is not allowed', given: [to(pods('x'))], verdicts: 'daa' },
  ],
  NetworkPolicyPort: [
    { says: 'the protocol must match', given: [ingressPorts({ protocol: 'UDP', port: 5432 })], verdicts: 'ddd' },
    {
      says: 'a protocol that is not carried is said',
      given: [ingressPorts({ protocol: 'SCTP' })],
      warned: /warning .*Culvert carries TCP: an allowance for SCTP means nothing here/,
    },
    {
      says: 'the port may be a name that the pod gives to one',
      given: [ingressPorts({ port: 'pg' })],
      verdicts: 'aaa',
      to: { destination: meshed('billing/db', '198.18.0.2', { ports: { pg: 5432 } }) },
    },
    {
      says: 'a name that the pod does not give matches nothing',
      given: [ingressPorts({ port: 'pg' })],
      verdicts: 'ddd',
    },
    {
      says: 'endPort and the name of a port exclude each other',
      given: [ingressPorts({ port: 'pg', endPort: 5432 })],
      refused: /endPort: .*needs a port that is a number/,
    },
    { says: 'without a protocol TCP', given: [ingressPorts({ port: 5432 })], verdicts: 'aaa' },
    { says: 'without a port all', given: [ingressPorts({ protocol: 'TCP' })], verdicts: 'aaa' },
    { says: 'protocol and port must both match', given: [ingressPorts({ protocol: 'TCP', port: 1 })], verdicts: 'ddd' },
    {
      says: 'endPort makes a range, with both ends',
      given: [ingressPorts({ port: 5400, endPort: 5432 })],
      verdicts: 'aaa',
    },
    { says: 'outside the range nothing', given: [ingressPorts({ port: 5400, endPort: 5431 })], verdicts: 'ddd' },
    { says: 'endPort needs port', given: [ingressPorts({ endPort: 5432 })], refused: /endPort: .*needs port/ },
    {
      says: 'endPort is not lower',
      given: [ingressPorts({ port: 2, endPort: 1 })],
      refused: /must not be lower than port/,
    },
  ],
  IPBlock: [
    { says: 'cidr: a network of IPv4', given: [from({ ipBlock: { cidr: '203.0.113.0/24' } })], verdicts: 'dda' },
    { says: 'cidr: a network of IPv6', given: [from({ ipBlock: { cidr: '2001:db8::/64' } })], verdicts: 'ddd' },
    { says: 'cidr is required', given: [from({ ipBlock: {} })], refused: /ipBlock\.cidr: is missing/ },
    {
      says: 'except takes networks out',
      given: [from({ ipBlock: { cidr: '0.0.0.0/0', except: ['203.0.113.0/24'] } })],
      verdicts: 'aad',
    },
    {
      says: 'except lies within cidr',
      given: [from({ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } })],
      refused: /must be a smaller network in 10\.0\.0\.0\/8/,
    },
  ],
  NetworkPolicyPeer: [
    { says: 'podSelector selects pods', given: [from(pods('api'))], verdicts: 'add' },
    { says: 'an empty podSelector selects all', given: [from({ podSelector: {} })], verdicts: 'add' },
    { says: 'podSelector alone selects in the namespace of the policy', given: [from(pods('web'))], verdicts: 'ddd' },
    {
      says: 'with namespaceSelector it selects in those namespaces',
      given: [shop, from({ ...team, ...pods('web') })],
      verdicts: 'dad',
    },
    { says: 'both must match', given: [shop, from({ ...team, ...pods('api') })], verdicts: 'ddd' },
    { says: 'namespaceSelector selects by labels of namespaces', given: [shop, from(team)], verdicts: 'dad' },
    { says: 'an empty namespaceSelector selects all', given: [from({ namespaceSelector: {} })], verdicts: 'aad' },
    { says: 'namespaceSelector alone selects all pods there', given: [shop, from(team)], verdicts: 'dad' },
    {
      says: 'ipBlock stands alone',
      given: [from({ ipBlock: { cidr: '::/0' }, podSelector: {} })],
      refused: /stands alone/,
    },
    {
      says: 'a peer names something',
      given: [from({})],
      refused: /must name a podSelector, namespaceSelector or ipBlock/,
    },
  ],
  LabelSelector: [
    {
      says: 'In: one of the values',
      given: [from({ podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['x', 'api'] }] } })],
      verdicts: 'add',
    },
    {
      says: 'NotIn: another value, or none',
      given: [from({ podSelector: { matchExpressions: [{ key: 'x', operator: 'NotIn', values: ['y'] }] } })],
      verdicts: 'add',
    },
    {
      says: 'Exists: any value',
      given: [from({ podSelector: { matchExpressions: [{ key: 'app', operator: 'Exists' }] } })],
      verdicts: 'add',
    },
    {
      says: 'DoesNotExist: no such label',
      given: [from({ podSelector: { matchExpressions: [{ key: 'app', operator: 'DoesNotExist' }] } })],
      verdicts: 'ddd',
    },
    {
      says: 'matchLabels and matchExpressions must all hold',
      given: [
        from({ podSelector: { matchLabels: { app: 'api' }, matchExpressions: [{ key: 'x', operator: 'Exists' }] } }),
      ],
      verdicts: 'ddd',
    },
    {
      says: 'values belong to In and NotIn',
      given: [from({ podSelector: { matchExpressions: [{ key: 'app', operator: 'Exists', values: ['x'] }] } })],
      refused: /must be left out for Exists/,
    },
  ],
  'the page Network Policies': [
    {
      says: 'both ends must allow a connection',
      given: [to(pods('db')), policy({ policyTypes: ['Ingress'] }, 'q')],
      verdicts: 'ddd',
    },
    {
      says: 'a pod cannot block access to itself',
      given: [policy({ policyTypes: ['Ingress', 'Egress'] })],
      verdicts: 'aaa',
      to: { source: db, isOwn: true },
    },
    { says: 'allow all ingress', given: [policy({ ingress: [{}] }), policy({}, 'q')], verdicts: 'aaa' },
    { says: 'deny all of both', given: [policy({ policyTypes: ['Ingress', 'Egress'] })], verdicts: 'ddd' },
    {
      says: 'policies of one namespace say nothing of another',
      given: [policy({ policyTypes: ['Ingress'] })],
      verdicts: 'aaa',
      to: { destination: other },
    },
    {
      says: 'a namespace can be selected by its name',
      given: [from({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } })],
      verdicts: 'dad',
    },
    { says: 'everything is allowed where the policies allow all', given: [policy(everything)], verdicts: 'aaa' },
  ],
};

for (const [part, sentences] of Object.entries(text)) {
  describe(`NetworkPolicy, ${part}`, () => {
    for (const sentence of sentences) it(sentence.says, () => checkPublished(sentence));
  });
}
