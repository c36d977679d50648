import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  parseNodeName,
  parseWorkloadName,
  serviceAccountName,
  workloadName,
} from '../../../../shared/routing/names.js';

test('a name is read as it is written', () => {
  const name = workloadName({ namespace: 'billing', name: 'api-1.x' });
  assert.equal(name, 'billing/api-1.x');
  assert.equal(parseWorkloadName(name), name);
  assert.equal(serviceAccountName({ namespace: 'billing', serviceAccount: 'api' }), 'billing/api');
});

test('what is no namespace and name cannot be the name of a workload', () => {
  for (const text of ['', 'api', '/api', 'billing/', 'a/b/c', 'A/b', 'a b/c', 'a/*', `a/${'b'.repeat(512)}`]) {
    assert.equal(parseWorkloadName(text), undefined, text);
  }
});

test('what is no DNS subdomain cannot be the name of a node', () => {
  assert.equal(parseNodeName('rack-1.example'), 'rack-1.example');
  for (const text of ['', 'A', 'a_b', 'a..b', '-a', 'a-', 'a*', 'x'.repeat(64), 'a\n']) {
    assert.equal(parseNodeName(text), undefined, text);
  }
});
