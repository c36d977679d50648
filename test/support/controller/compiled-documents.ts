import assert from 'node:assert/strict';
import { compileSnapshot } from '../../../controller/compile/compile-snapshot.js';
import { formatProblem } from '../../../controller/resources/kinds/problem.js';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';

/** The snapshot of documents that are right, as texts. */
export function compileDocuments(...documents: readonly string[]): Snapshot {
  const { resources, problems } = parseDocuments(documents.join('\n---\n'));
  assert.deepEqual(problems, []);
  const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'x', trustDomain: 'mesh.test' };
  const compiled = compileSnapshot(resources, meta);
  assert.ok('snapshot' in compiled);
  return compiled.snapshot;
}

/** A document has this one problem. */
export function assertRefused(document: string, path: string, why: RegExp): void {
  const { problems } = parseDocuments(document);
  assert.deepEqual(
    problems.map((problem) => problem.path),
    [path],
  );
  assert.match(problems.map(formatProblem).join('\n'), why);
}
