import assert from 'node:assert/strict';
import { readApplyBody } from '../../../controller/api/reading/apply-body.js';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import { allDocuments } from '../../docs/all-documents.js';
import { fencedBlocks } from '../../support/docs/shown-commands.js';
import { outcomeOf, withoutValues, type FuzzTarget } from '../target.js';

const words = [
  ['---\n', '- ', ': ', '? ', '{', '}', '[', ']', ', ', '|\n', '>-\n', '&a ', '*a', '<<: *a\n', '!!binary ', '!x '],
  ['null', '~', 'true', '__proto__', 'constructor', 'kind: List\nitems:\n', 'apiVersion: culvert.dev/v1\n', '\t'],
  ['metadata: { name: a }\n', 'spec:\n', 'matchLabels', 'matchExpressions', '0x10', '1_000', '.inf', '\xef\xbb\xbf'],
  ['10.0.0.0/8', '::/0', 'spiffe://', '%YAML 1.2\n', '"\\u0000"', "''", '\r\n', '# ', '\x85', '{"kind":"'],
].flat();

export const documentTarget: FuzzTarget = {
  name: 'documents',
  reads: 'YAML and JSON that editors apply',
  seeds: () => allDocuments().flatMap(({ text }) => fencedBlocks(text, 'yaml').map((block) => Buffer.from(block))),
  words,
  check: (input) => {
    const { resources, problems } = parseDocuments(input.toString('utf8'));
    const [problem] = problems;
    if (problem !== undefined) return withoutValues(problem.message).split(' ').slice(0, 4).join(' ');
    if (resources.length === 0) return 'an empty list';
    // What was taken is written by `culvert export` and `get -o json`, and taken again.
    const again = parseDocuments(resources.map((resource) => `${JSON.stringify(resource)}\n`).join('---\n'));
    assert.deepEqual(again.problems, []);
    assert.deepEqual(again.resources, resources);
    return `taken: ${[...new Set(resources.map(({ kind, spec }) => `${kind} ${Object.keys(spec).sort().join()}`))].join()}`;
  },
};

export const applyBodyTarget: FuzzTarget = {
  name: 'apply-body',
  reads: 'the body of POST /v1/apply',
  seeds: () => [Buffer.from(JSON.stringify({ documents: 'kind: Mesh', dryRun: true, message: 'why' }))],
  words: ['"documents":', '"__proto__":{}', '\\ud800', '[[[[', '{"a":', 'true', 'null', '\xff', '\0', '1e400'],
  check: (input) => outcomeOf(() => readApplyBody(input)),
};
