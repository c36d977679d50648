import assert from 'node:assert/strict';
import { test } from 'node:test';
import { enrolmentOf } from '../../../../controller/kubernetes/enrolment.js';

const label = 'culvert.dev/mesh';
const plain = { isMirror: false, isOnHost: false };

function isEnrolled(pod: string | null, namespace: string | null, name = 'shop'): boolean {
  const labelsOf = (value: string | null): Record<string, string> => (value === null ? {} : { [label]: value });
  return enrolmentOf({ ...plain, namespace: name, labels: labelsOf(pod) }, labelsOf(namespace), 'culvert-system')
    .isEnrolled;
}

test('the label of the namespace counts, and that of the pod counts more', () => {
  assert.equal(isEnrolled(null, null), false);
  assert.equal(isEnrolled(null, 'enabled'), true);
  assert.equal(isEnrolled(null, 'disabled'), false);
  assert.equal(isEnrolled('enabled', null), true);
  assert.equal(isEnrolled('enabled', 'disabled'), true);
  assert.equal(isEnrolled('disabled', 'enabled'), false);
});

test('the pod’s own label counts while its namespace is not known', () => {
  const pod = { ...plain, namespace: 'shop', labels: { [label]: 'enabled' } };
  assert.equal(enrolmentOf(pod, undefined, 'culvert-system').isEnrolled, true);
  assert.equal(enrolmentOf({ ...pod, labels: {} }, undefined, 'culvert-system').isEnrolled, false);
});

test('what starts the cluster, and the mesh itself, stay outside and are told so', () => {
  for (const namespace of ['kube-system', 'culvert-system']) {
    const found = enrolmentOf({ ...plain, namespace, labels: { [label]: 'enabled' } }, {}, 'culvert-system');
    assert.equal(found.isEnrolled, false);
    assert.match(found.problem ?? '', /stay outside the mesh/);
  }
});

test('another value enrols nothing, and is told', () => {
  const found = enrolmentOf({ ...plain, namespace: 'shop', labels: { [label]: 'true' } }, {}, 'culvert-system');
  assert.deepEqual(found, {
    isEnrolled: false,
    problem: 'the label culvert.dev/mesh is "true", and must be "enabled" or "disabled"',
  });
});

test('a pod that a node made of a file, and one with the network of its node, stay outside whatever their labels say', () => {
  for (const change of [{ isMirror: true }, { isOnHost: true }]) {
    const pod = { ...plain, ...change, namespace: 'billing', labels: { [label]: 'enabled' } };
    assert.deepEqual(enrolmentOf(pod, { [label]: 'enabled' }, 'culvert-system'), { isEnrolled: false, problem: null });
  }
});

test('the label of Istio’s ambient mode counts where it is asked for, and ours counts more on the same object', () => {
  const [ambient, none] = [{ 'istio.io/dataplane-mode': 'ambient' }, { 'istio.io/dataplane-mode': 'none' }];
  const [enabled, disabled] = [{ [label]: 'enabled' }, { [label]: 'disabled' }];
  const rows: readonly (readonly [pod: Record<string, string>, namespace: Record<string, string>, isIn: boolean])[] = [
    [{}, ambient, true],
    [ambient, {}, true],
    [none, ambient, false],
    [none, enabled, false],
    [ambient, none, true],
    [ambient, disabled, true],
    [{ ...ambient, ...disabled }, {}, false],
    [{ ...none, ...enabled }, {}, true],
    [{}, { ...ambient, ...disabled }, false],
    [{ 'istio.io/dataplane-mode': 'sidecar' }, ambient, true],
    [{ 'istio.io/dataplane-mode': 'constructor' }, {}, false],
  ];
  for (const [labels, namespace, isIn] of rows) {
    const pod = { ...plain, namespace: 'shop', labels };
    const said = JSON.stringify([labels, namespace]);
    assert.equal(enrolmentOf(pod, namespace, 'culvert-system', true).isEnrolled, isIn, said);
    const ofIstio = [labels, namespace].every((all) => all[label] === undefined);
    if (ofIstio) assert.equal(enrolmentOf(pod, namespace, 'culvert-system').isEnrolled, false, said);
  }
  const kept = { ...plain, namespace: 'kube-system', labels: ambient };
  assert.equal(enrolmentOf(kept, {}, 'culvert-system', true).isEnrolled, false);
});
