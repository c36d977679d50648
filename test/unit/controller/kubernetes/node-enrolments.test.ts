import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeEnrolments } from '../../../../controller/kubernetes/node-enrolments.js';
import { readPod } from '../../../../controller/kubernetes/pod.js';

const label = 'culvert.dev/mesh';
const hash = '0123456789abcdef0123456789abcdef';

type About = {
  readonly node?: string | null;
  readonly mesh?: string;
  readonly hostNetwork?: boolean;
  readonly annotations?: Readonly<Record<string, string>>;
};

function pod(
  namespace: string,
  name: string,
  { node = 'n1', mesh, hostNetwork = false, annotations = {} }: About = {},
) {
  const read = readPod({
    metadata: { namespace, name, uid: `uid-${name}`, labels: mesh === undefined ? {} : { [label]: mesh }, annotations },
    spec: { ...(node === null ? {} : { nodeName: node }), hostNetwork },
  });
  assert.ok(read !== null);
  return read;
}

function enrolments(namespaces: Readonly<Record<string, string | null>>, pods: readonly ReturnType<typeof pod>[]) {
  const all = Object.entries(namespaces).map(([name, mesh]) => ({
    name,
    labels: mesh === null ? {} : { [label]: mesh },
  }));
  return Object.fromEntries(nodeEnrolments({ pods, namespaces: all, ownNamespace: 'culvert-system' }));
}

test('a namespace with the label counts before it has a pod, on every node that has any', () => {
  const pods = [pod('kube-system', 'proxy', { hostNetwork: true }), pod('other', 'a', { node: 'n2' })];
  const found = enrolments({ shop: 'enabled', other: null, off: 'disabled', odd: 'yes' }, pods);
  const told = { namespaces: ['shop'], outside: [] };
  assert.deepEqual(found, { n1: told, n2: told });
});

test('pods of such a namespace that are outside are told to their own node, and others are not told', () => {
  const found = enrolments({ shop: 'enabled', other: null }, [
    pod('shop', 'in'),
    pod('shop', 'out', { mesh: 'disabled' }),
    pod('shop', 'odd', { mesh: 'true', node: 'n2' }),
    pod('shop', 'waiting', { mesh: 'disabled', node: null }),
    pod('shop', 'host', { mesh: 'disabled', hostNetwork: true }),
    pod('other', 'b'),
  ]);
  assert.deepEqual(found, {
    n1: { namespaces: ['shop'], outside: ['uid-out'] },
    n2: { namespaces: ['shop'], outside: ['uid-odd'] },
  });
});

test('a namespace counts with a pod that says it for itself, and its other pods are told', () => {
  const found = enrolments({ other: null }, [pod('other', 'in', { mesh: 'enabled', node: 'n2' }), pod('other', 'out')]);
  assert.deepEqual(found, {
    n1: { namespaces: ['other'], outside: ['uid-out'] },
    n2: { namespaces: ['other'], outside: [] },
  });
});

test('what starts the cluster, and the mesh itself, never wait', () => {
  const all = { 'kube-system': 'enabled', 'kube-public': 'enabled', 'culvert-system': 'enabled' };
  const pods = Object.keys(all).map((namespace) => pod(namespace, namespace, { mesh: 'enabled' }));
  assert.deepEqual(enrolments(all, pods), { n1: { namespaces: [], outside: [] } });
});

test('a static pod is outside by the UID that its node gave it', () => {
  const annotations = { 'kubernetes.io/config.mirror': hash, 'kubernetes.io/config.hash': hash };
  const one = pod('shop', 'static', { annotations });
  // A pod that only has the annotation.
  const other = pod('shop', 'plain', { mesh: 'disabled', annotations: { 'kubernetes.io/config.hash': hash } });
  assert.deepEqual(enrolments({ shop: 'enabled' }, [one]), { n1: { namespaces: ['shop'], outside: [hash] } });
  assert.deepEqual(enrolments({ shop: 'enabled' }, [other]), { n1: { namespaces: ['shop'], outside: ['uid-plain'] } });
});

test('a static pod is left out whose UID is none that kubelet makes', () => {
  const mirrors = [`${hash}0`, hash.toUpperCase(), 'x'.repeat(128), ''].map((uid, index) =>
    pod('shop', `static-${index}`, {
      annotations: { 'kubernetes.io/config.mirror': hash, 'kubernetes.io/config.hash': uid },
    }),
  );
  const bare = pod('shop', 'bare', { annotations: { 'kubernetes.io/config.mirror': hash } });
  assert.deepEqual(enrolments({ shop: 'enabled' }, [...mirrors, bare]), { n1: { namespaces: ['shop'], outside: [] } });
});

test('a label that comes and goes on a pod is news for the node of the pod alone, after the first time', () => {
  const standing = new Set<string>();
  const namespaces = [{ name: 'other', labels: {} }];
  const told = (pods: readonly ReturnType<typeof pod>[], all = namespaces) =>
    Object.fromEntries(nodeEnrolments({ pods, namespaces: all, ownNamespace: 'culvert-system', standing }));
  const elsewhere = pod('other', 'elsewhere', { node: 'n2' });
  const first = told([pod('other', 'a', { mesh: 'enabled' }), elsewhere]);
  assert.deepEqual(first, {
    n1: { namespaces: ['other'], outside: [] },
    n2: { namespaces: ['other'], outside: ['uid-elsewhere'] },
  });
  const without = told([pod('other', 'a'), elsewhere]);
  assert.deepEqual(without, { n1: { namespaces: ['other'], outside: ['uid-a'] }, n2: first['n2'] });
  assert.deepEqual(told([pod('other', 'a', { mesh: 'enabled' }), elsewhere]), first);
  // A namespace that is gone is forgotten, so one of its name begins from nothing.
  told([], []);
  assert.deepEqual([...standing], []);
});

test('pods wait in a namespace with the label of Istio’s ambient mode, where that counts', () => {
  const namespaces = [{ name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } }];
  const told = (takesAmbient: boolean) =>
    Object.fromEntries(
      nodeEnrolments({ pods: [pod('other', 'a')], namespaces, ownNamespace: 'culvert-system', takesAmbient }),
    );
  assert.deepEqual(told(true), { n1: { namespaces: ['shop'], outside: [] } });
  assert.deepEqual(told(false), { n1: { namespaces: [], outside: [] } });
});
