import assert from 'node:assert/strict';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import { validateSet } from '../../../controller/compile/check/validate-set.js';
import { compileSnapshot } from '../../../controller/compile/compile-snapshot.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { trustDomain } from './policy-fixture.js';

/** Documents as they stand in the documentation of others: read, checked and compiled as `culvert apply` does it. */
export function compileDocuments(...documents: readonly object[]): Snapshot {
  const text = documents.map((document) => JSON.stringify(document)).join('\n---\n');
  // A text without a document is a mistake; a set without one is not.
  const { resources, problems } = documents.length === 0 ? { resources: [], problems: [] } : parseDocuments(text);
  assert.deepEqual(problems, []);
  const errors = validateSet(resources).filter(({ severity }) => severity === 'error');
  assert.deepEqual(errors, []);
  const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'test', trustDomain };
  const compiled = compileSnapshot(resources, meta);
  assert.ok('snapshot' in compiled);
  return compiled.snapshot;
}

export function istio(kind: string, name: string, namespace: string, spec: object): object {
  return { apiVersion: 'security.istio.io/v1', kind, metadata: { name, namespace }, spec };
}

export function networkPolicy(name: string, namespace: string, spec: object): object {
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace }, spec };
}

export function namespaceOf(name: string, labels: Readonly<Record<string, string>>): object {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } };
}

export function mesh(spec: object): object {
  return { apiVersion: 'culvert.dev/v1', kind: 'Mesh', metadata: { name: 'default' }, spec };
}
