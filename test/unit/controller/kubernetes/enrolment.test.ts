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
