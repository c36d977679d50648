import assert from 'node:assert/strict';
import { z } from 'zod';
import { parseCniRequest } from '../../../agent/control/cni/cni-request.js';
import { readAdmission } from '../../../controller/kubernetes/admission.js';
import { readEndpointSlice } from '../../../controller/kubernetes/endpoint-slice.js';
import { enrolmentOf } from '../../../controller/kubernetes/enrolment.js';
import { foreignRuleKinds } from '../../../controller/kubernetes/foreign-rule-kinds.js';
import { readNamespace } from '../../../controller/kubernetes/namespace.js';
import { readNode } from '../../../controller/kubernetes/node.js';
import { podEntry } from '../../../controller/kubernetes/pod-entry.js';
import { readPod } from '../../../controller/kubernetes/pod.js';
import { ownRuleKind, readRuleObject, type RuleKind } from '../../../controller/kubernetes/rule-object.js';
import { readService } from '../../../controller/kubernetes/service.js';
import { customKindNames } from '../../../controller/resources/custom/custom-kinds.js';
import { foreignKinds } from '../../../controller/resources/kinds/policies-of-others.js';
import { parseSpiffeId } from '../../../shared/identity.js';
import { outcomeOf, withoutValues, type FuzzTarget } from '../target.js';

const ruleKinds = [...customKindNames.map(ownRuleKind), ...foreignRuleKinds(foreignKinds.map(({ kind }) => kind))];

const metadata = { namespace: 'shop', name: 'web', uid: '11111111-2222-3333-4444-555555555555', resourceVersion: '1' };
const pod = {
  metadata: {
    ...metadata,
    labels: { app: 'web', 'culvert.dev/mesh': 'enabled' },
    annotations: {
      'culvert.dev/exclude-outbound-cidrs': '10.0.0.0/8, fd00::/8',
      'culvert.dev/exclude-inbound-ports': '22,53',
    },
  },
  spec: { nodeName: 'n1', serviceAccountName: 'web', containers: [{ ports: [{ name: 'http', containerPort: 80 }] }] },
  status: { phase: 'Running', podIPs: [{ ip: '198.18.0.7' }], conditions: [{ type: 'Ready', status: 'True' }] },
};
const rule = {
  apiVersion: 'culvert.dev/v1',
  kind: 'SegmentationRule',
  metadata: { name: 'db-only', generation: 1 },
  spec: { action: 'allow', from: [{ namespace: 'shop' }], to: [{ workload: 'shop/db' }], ports: [5432] },
};
const seeds = [
  pod,
  {
    ...pod,
    metadata: {
      ...pod.metadata,
      annotations: { 'kubernetes.io/config.mirror': 'x', 'kubernetes.io/config.hash': 'y' },
    },
  },
  {
    metadata,
    spec: { clusterIPs: ['10.96.0.1'], ports: [{ port: 80, targetPort: 'http' }], selector: { app: 'web' } },
  },
  { metadata, addressType: 'IPv4', endpoints: [{ addresses: ['198.18.0.7'] }], ports: [{ name: 'http', port: 80 }] },
  rule,
  {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata,
    spec: { podSelector: {}, policyTypes: ['Ingress'] },
  },
  {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u',
      operation: 'CREATE',
      kind: { group: 'culvert.dev', version: 'v1', kind: 'SegmentationRule' },
      object: rule,
    },
  },
  {
    version: 1,
    command: 'ADD',
    timeoutMs: 1000,
    containerId: 'c',
    netns: '/run/netns/x',
    interface: 'eth0',
    pod: { namespace: 'shop', name: 'web', uid: 'u' },
  },
];

/** A reader may say that an object is not of its kind: then what was known of it stays. */
function readingOf<T>(read: () => T): T | 'other' {
  try {
    return read();
  } catch (error) {
    if (error instanceof z.ZodError) return 'other';
    throw error;
  }
}

/** What is wrong with a rule of this kind: of each kind of problem the first. */
function ruleOf(kind: RuleKind, object: unknown): string {
  const found = readingOf(() => readRuleObject(kind, object));
  if (found === 'other') return '';
  const problems = 'problems' in found.read ? found.read.problems.map(({ message }) => message) : ['taken'];
  return `${kind.kind} ${problems[0] ?? ''}`;
}

/** A pod has the identity of its namespace and account, however both are written, and a static one has none. */
function entryOf(object: unknown): string {
  const found = readingOf(() => readPod(object));
  if (found === 'other' || found === null) return found ?? 'finished';
  const { isEnrolled } = enrolmentOf(found, { 'culvert.dev/mesh': 'enabled' }, 'culvert-system', false);
  const { entry, problems } = podEntry(found, { isEnrolled, trustDomain: 'lab.test', locality: null });
  if (entry === null) return `no entry ${problems.join()}`;
  const { namespace, serviceAccount } = parseSpiffeId(entry.identity ?? '') ?? {};
  assert.deepEqual([namespace, serviceAccount], [found.namespace, found.serviceAccount]);
  if (found.isMirror) assert.deepEqual([entry.protocol, entry.labels], ['tcp', {}]);
  return `${entry.protocol} ${entry.addresses.length} ${problems.join()}`;
}

export const clusterTarget: FuzzTarget = {
  name: 'cluster',
  reads: 'pods, services and rules of a cluster, questions of its API server, and requests of the CNI plugin',
  seeds: () => seeds.map((seed) => Buffer.from(JSON.stringify(seed))),
  words: [
    ['null', 'true', '{}', '[]', '""', '-1', '1e400', '"__proto__":', '"constructor":', '\\ud800', '\\u0000', '/sa/x'],
    ['"kubernetes.io/config.mirror":"x",', '"hostNetwork":true,', '"namespace":"', '"spec":{', '..', '%2f', '[[[[[['],
    ['"kind":"NetworkPolicy"', '"kind":"Segment"', '"operation":"UPDATE"', '"oldObject":{', ',,', '0.0.0.0/0', '::'],
  ].flat(),
  check: (input) => {
    const text = input.toString('utf8');
    const asked = [
      parseCniRequest(text) === null ? '-' : '+',
      outcomeOf(() => readAdmission(input, ruleKinds)).slice(0, 3),
    ];
    let object: unknown;
    try {
      object = JSON.parse(text);
    } catch {
      return asked.join('');
    }
    const readers = [readService, readEndpointSlice, readNamespace, readNode];
    const read = readers.map((reader) => (readingOf(() => reader(object)) === 'other' ? '-' : '+'));
    const kind = (object as { readonly kind?: unknown } | null)?.kind;
    const rules = ruleKinds.map((each) => ({ kind: each.kind, said: ruleOf(each, object) }));
    const own = rules.find((each) => each.kind === kind)?.said ?? '';
    return withoutValues([...asked, ...read, entryOf(object), own].join(''));
  },
};
